//! Where the keys of token issuers come from, and what happens when they change or vanish.

use std::{sync::Arc, time::Duration};

use eastwest_ca_server::{IssuerKeys, KeySource, Pace, ProofConfig};
use eastwest_io::{HttpsClient, TrustedRoots};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;

use super::{
    common::{Ca, request},
    issuer::Issuer,
    web::Web,
};

/// Fast enough for a test, slow enough to see what is not asked.
const PACE: Pace = Pace { every: Duration::from_secs(3600), at_least: Duration::from_millis(300) };

fn client(web: &Web) -> HttpsClient {
    HttpsClient::new(&TrustedRoots::File(web.roots())).unwrap()
}

async fn ca_of(keys: Arc<IssuerKeys>) -> Ca {
    Ca::start_with(ProofConfig { issuers: vec![keys], ..ProofConfig::default() }).await
}

async fn code(ca: &Ca, token: &str) -> Code {
    let answer = ca.client().token(token).await.create(request()).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Asks until the answer is `wanted`.
async fn until(ca: &Ca, token: &str, wanted: Code) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while code(ca, token).await != wanted {
        assert!(Instant::now() < deadline, "{wanted:?} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn keys_at_an_address_are_followed_and_survive_its_failures() {
    let web = Web::start(true).await;
    let (old, new) = (Issuer::new("https://cluster", "old"), Issuer::new("https://cluster", "new"));
    web.serve([("/keys", old.jwks())]);
    let source = KeySource::parse(&web.url("/keys"), &client(&web)).unwrap();
    let ca = ca_of(IssuerKeys::followed("https://cluster".to_owned(), source, PACE)).await;
    until(&ca, &old.token("shop/reviews", json!({})), Code::Ok).await;
    assert_eq!(web.count(), 1, "once read, keys are kept");
    let asked = web.pages().asked[0].clone();
    assert!(asked.headers.contains("eastwest/") && asked.body.is_empty(), "{asked:?}");
    // The Kubernetes API answers 406 to clients that do not accept that.
    assert!(asked.headers.contains("application/jwk-set+json"), "{asked:?}");

    // The issuer rotates: the new key is fetched because a token names it, and as seldom as allowed.
    web.serve([("/keys", json!({"keys": [old.jwk(), new.jwk()]}).to_string())]);
    until(&ca, &new.token("shop/reviews", json!({})), Code::Ok).await;
    let before = web.count();
    let unknown = Issuer::new("https://cluster", "unknown").token("shop/reviews", json!({}));
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(code(&ca, &unknown).await, Code::Unauthenticated);
    }
    let allowed = start.elapsed().as_millis() / PACE.at_least.as_millis() + 1;
    assert!((web.count() - before) as u128 <= allowed, "asked {} times", web.count() - before);

    // Whatever the source does now, the last good keys stay.
    for bad in
        [(503, String::new()), (200, "{}".to_owned()), (200, "x".repeat(2 << 20)), (200, String::new())]
    {
        let before = web.count();
        web.answer(move |_| bad.clone());
        tokio::time::sleep(PACE.at_least).await;
        code(&ca, &unknown).await;
        assert!(web.count() > before, "it was asked again");
        assert_eq!(code(&ca, &new.token("shop/reviews", json!({}))).await, Code::Ok);
    }
    // A key that is taken back is no longer believed.
    web.serve([("/keys", new.jwks())]);
    let withdrawn = old.token("shop/reviews", json!({}));
    let deadline = Instant::now() + Duration::from_secs(20);
    while code(&ca, &withdrawn).await == Code::Ok {
        assert!(Instant::now() < deadline, "the old key is still believed");
        code(&ca, &unknown).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_with_the_certificate_of_another_host_is_not_trusted() {
    let (web, other) = (Web::start(true).await, Web::start(true).await);
    let issuer = Issuer::new("https://cluster", "k");
    web.serve([("/keys", issuer.jwks())]);
    for roots in [TrustedRoots::File(other.roots()), TrustedRoots::System] {
        let source = KeySource::parse(&web.url("/keys"), &HttpsClient::new(&roots).unwrap()).unwrap();
        let ca = ca_of(IssuerKeys::followed("https://cluster".to_owned(), source, PACE)).await;
        assert_eq!(code(&ca, &issuer.token("shop/reviews", json!({}))).await, Code::Unauthenticated);
    }
    assert_eq!(web.count(), 0, "no request came through");
    let empty = other.roots().with_file_name("empty.pem");
    std::fs::write(&empty, "").unwrap();
    assert!(HttpsClient::new(&TrustedRoots::File(empty)).is_err());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (web, plain) = (Web::start(true).await, Web::start(false).await);
    let issuer = Issuer::new("https://cluster", "k");
    plain.serve([("/keys", issuer.jwks())]);
    let elsewhere = format!("http://127.0.0.1:{}/keys", plain.address.port());
    web.answer(move |_| (302, elsewhere.clone()));
    let source = KeySource::parse(&web.url("/keys"), &client(&web)).unwrap();
    let ca = ca_of(IssuerKeys::followed("https://cluster".to_owned(), source, PACE)).await;
    assert_eq!(code(&ca, &issuer.token("shop/reviews", json!({}))).await, Code::Unauthenticated);
    assert_eq!((web.count(), plain.count()), (1, 0));
}

#[tokio::test]
async fn the_discovery_document_names_the_keys_if_it_is_the_issuers_own() {
    let web = Web::start(true).await;
    let issuer = Issuer::new(&web.url(""), "k");
    let path = "/.well-known/openid-configuration";
    let document = |name: &str, keys: &str| json!({"issuer": name, "jwks_uri": keys}).to_string();
    let start = async || {
        let source = KeySource::discovered(&issuer.name, &client(&web)).unwrap();
        ca_of(IssuerKeys::followed(issuer.name.clone(), source, PACE)).await
    };
    let token = issuer.token("shop/reviews", json!({}));
    let own = web.url("/keys");
    web.serve([(path, document(&issuer.name, &own)), ("/keys", issuer.jwks())]);
    until(&start().await, &token, Code::Ok).await;
    for (name, keys) in [
        (format!("{}/", issuer.name), own.as_str()),
        (issuer.name.to_uppercase(), &own),
        ("https://other.example".to_owned(), &own),
        (issuer.name.clone(), "http://issuer.example/keys"),
        (issuer.name.clone(), "file:///etc/passwd"),
        (issuer.name.clone(), ""),
    ] {
        web.serve([(path, document(&name, keys)), ("/keys", issuer.jwks())]);
        assert_eq!(code(&start().await, &token).await, Code::Unauthenticated, "{name} {keys}");
    }
    web.serve([(path, "{}".to_owned()), ("/keys", issuer.jwks())]);
    assert_eq!(code(&start().await, &token).await, Code::Unauthenticated);
}

#[tokio::test]
async fn keys_in_a_file_are_followed_and_a_bad_file_keeps_the_last_good_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let load = || IssuerKeys::in_file("https://cluster".to_owned(), path.clone());
    assert!(load().is_err(), "absent");
    std::fs::write(&path, "{}").unwrap();
    assert!(load().is_err(), "no keys");
    let (old, new) = (Issuer::new("https://cluster", "old"), Issuer::new("https://cluster", "new"));
    std::fs::write(&path, old.jwks()).unwrap();
    let ca = ca_of(load().unwrap()).await;
    let [old, fresh] = [&old, &new].map(|issuer| issuer.token("shop/reviews", json!({})));
    assert_eq!(code(&ca, &old).await, Code::Ok);
    assert_eq!(code(&ca, &fresh).await, Code::Unauthenticated);
    std::fs::write(&path, "not keys").unwrap();
    tokio::time::sleep(Pace::FILE.every + Duration::from_millis(200)).await;
    assert_eq!(code(&ca, &old).await, Code::Ok, "a bad file keeps what was");
    std::fs::write(&path, new.jwks()).unwrap();
    until(&ca, &fresh, Code::Ok).await;
    assert_eq!(code(&ca, &old).await, Code::Unauthenticated);
    let own = ca.token("shop", "reviews");
    assert_eq!(code(&ca, &own).await, Code::Ok, "our own tokens are good as before");
    let name = new.token("shop/reviews", json!({"iss": "eastwest"}));
    assert_eq!(code(&ca, &name).await, Code::Unauthenticated, "not in another issuer's name");
}
