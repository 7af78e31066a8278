//! The CA through a real gRPC client over real TLS on loopback: what is answered, with which code.

use super::common::{CSR, Ca, Client, REVIEWS, csr, identity, not_after, request, summary};
use eastwest_ca::{CertificateSummary, pem};
use eastwest_ca_server::operations;
use eastwest_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::{Struct, Value, value::Kind};
use time::{Duration, OffsetDateTime};
use tonic::{Code, Status};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn code(answer: Result<IstioCertificateResponse, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_token_gets_a_certificate_and_the_certificate_renews_itself() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let answer = client.create(request()).await.unwrap();
    let [leaf, roots] = &answer.cert_chain[..] else { panic!("leaf and roots: {answer:?}") };
    assert_eq!(*roots, ca.certificate_authority.roots_pem());
    let leaf = CertificateSummary::of(&pem::certificates(leaf).unwrap()[0]).unwrap();
    assert_eq!((leaf.subject.as_str(), &leaf.names[..]), ("", &[REVIEWS.to_owned()][..]));

    let issued = ca.issue(REVIEWS, MINUTE, now());
    let mut client = ca.client().certificate(&issued).await;
    for _ in 0..2 {
        let renewed = client.create(request()).await.unwrap();
        assert_eq!(identity(&renewed), REVIEWS);
        assert_ne!(
            CertificateSummary::of(&pem::certificates(&renewed.cert_chain[0]).unwrap()[0]).unwrap(),
            leaf
        );
    }
}

/// CA.md A1 to A5a: the client learns what is wrong.
#[tokio::test]
async fn bad_requests_are_invalid_arguments() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let good = csr(CSR);
    let der = pem::decode_one(&good, &["CERTIFICATE REQUEST"]).unwrap();
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let label = "CERTIFICATE REQUEST";
    for (what, text, said) in [
        ("empty", String::new(), "BEGIN CERTIFICATE REQUEST"),
        ("not PEM", "hello".to_owned(), "BEGIN CERTIFICATE REQUEST"),
        ("wrong label", good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "BEGIN CERTIFICATE REQUEST"),
        ("text after it", format!("{good}x"), "after the one block"),
        ("two blocks", format!("{good}{good}"), "after the one block"),
        ("trailing DER", pem::encode(label, &[&der[..], &[0]].concat()), "PKCS #10"),
        ("not base64", good.replacen("MI", "M!", 1), "base64"),
        ("cut off", pem::encode(label, &der[..der.len() / 2]), "PKCS #10"),
        ("flipped signature", pem::encode(label, &flipped), "signature"),
        ("too large", pem::encode(label, &vec![0x30; 70_000]), "bytes"),
        ("RSA 1024", csr("bad-rsa1024"), "1024 bits"),
        ("P-521", csr("bad-p521"), "allowed are"),
        ("P-224", csr("bad-p224"), "allowed are"),
        ("DSA", csr("bad-dsa"), "allowed are"),
        ("compressed point", csr("bad-p256-compressed"), "allowed are"),
        ("explicit parameters", csr("bad-p256-explicit"), "allowed are"),
        ("RSA with SHA-1", csr("bad-rsa2048-sha1"), "signature algorithm"),
    ] {
        let status = client.create(IstioCertificateRequest { csr: text, ..request() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        assert!(status.message().contains(said), "{what}: {}", status.message());
    }
    for good in ["p256-sha384", "p384", "p384-sha256", "ed25519", "rsa2048", "ca-true", "other-names"] {
        let answer = client.create(IstioCertificateRequest { csr: csr(good), ..request() }).await.unwrap();
        assert_eq!(identity(&answer), REVIEWS, "{good}");
    }
}

/// CA.md A24.
#[tokio::test]
async fn lives() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let day = 24 * 3600;
    for (asked, granted) in [
        (0, Some(day)),
        (-1, Some(day)),
        (i64::MIN, Some(day)),
        (3600, Some(3600)),
        (90 * day, Some(90 * day)),
        (90 * day + 1, None),
        (i64::MAX, None),
        (9, None),
    ] {
        let answer = client.create(IstioCertificateRequest { validity_duration: asked, ..request() }).await;
        match granted {
            Some(seconds) => {
                let left = not_after(&answer.unwrap()) - now();
                assert!(
                    (Duration::seconds(seconds - 30)..=Duration::seconds(seconds)).contains(&left),
                    "{asked}: {left}"
                );
            }
            None => {
                let status = answer.unwrap_err();
                assert_eq!(status.code(), Code::InvalidArgument);
                assert!(status.message().contains("mum of"), "the bound is named: {}", status.message());
            }
        }
    }
}

/// CA.md A17, A18 and A21; and all of them read alike.
#[tokio::test]
async fn bad_tokens_are_unauthenticated() {
    let (ca, stranger) = (Ca::start().await, Ca::start().await);
    let mint =
        |audience: &str, at| operations::token(&ca.path(), "shop", "reviews", audience, MINUTE, at).unwrap();
    let good = ca.token("shop", "reviews");
    let (message, _) = good.rsplit_once('.').unwrap();
    for (what, token) in [
        ("none", None),
        ("empty", Some(String::new())),
        ("garbage", Some("a.b.c".to_owned())),
        ("no signature", Some(format!("{message}."))),
        ("alg none", Some("eyJhbGciOiJub25lIn0.e30.".to_owned())),
        ("expired", Some(mint("istio-ca", now() - Duration::minutes(2)))),
        ("not yet valid", Some(mint("istio-ca", now() + Duration::minutes(2)))),
        ("another audience", Some(mint("other", now()))),
        ("another CA's", Some(stranger.token("shop", "reviews"))),
        ("of 12 KB", Some("a".repeat(12_000))),
    ] {
        let client = ca.client();
        let mut client = match &token {
            Some(token) => client.token(token).await,
            None => client.anonymous().await,
        };
        let status = client.create(request()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        assert_eq!(status.message(), "request authenticate failure", "{what}");
    }
    assert_eq!(code(ca.client().token(&good).await.create(request()).await), Code::Ok);
    let twice = ca
        .client()
        .headers(&[&format!("Bearer {good}"), &format!("Bearer {good}")])
        .await
        .create(request())
        .await;
    assert_eq!(code(twice), Code::Unauthenticated);
    let basic = ca.client().headers(&["Basic YTpi"]).await.create(request()).await;
    assert_eq!(code(basic), Code::Unauthenticated);
}

/// CA.md A22.
#[tokio::test]
async fn bad_client_certificates_prove_nothing_and_do_no_harm() {
    let (ca, stranger) = (Ca::start().await, Ca::start().await);
    let expired = ca.issue(REVIEWS, MINUTE, now() - Duration::minutes(5));
    let foreign = stranger.issue(REVIEWS, MINUTE, now());
    let other_domain = ca.issue_foreign("spiffe://other/ns/shop/sa/reviews");
    let token = ca.token("shop", "ratings");
    for (what, certificate) in
        [("expired", expired), ("another CA's", foreign), ("another domain's", other_domain)]
    {
        let alone = ca.client().certificate(&certificate).await.create(request()).await;
        assert_eq!(code(alone), Code::Unauthenticated, "{what} alone");
        let beside = ca.client().with(&certificate).token(&token).await.create(request()).await;
        let ratings = "spiffe://cluster.local/ns/shop/sa/ratings";
        assert_eq!(identity(&beside.unwrap()), ratings, "{what} beside a good token: the token's identity");
    }
    let good = ca.issue(REVIEWS, MINUTE, now());
    let both = ca.client().with(&good).token(&token).await.create(request()).await;
    assert_eq!(identity(&both.unwrap()), REVIEWS, "a good certificate goes first");
    let bad_token = ca.client().with(&good).token("a.b.c").await.create(request()).await;
    assert_eq!(identity(&bad_token.unwrap()), REVIEWS, "a bad token beside it does no harm");
}

/// A certificate that runs out on an open connection proves nothing any more.
#[tokio::test]
async fn certificates_are_judged_per_request() {
    let ca = Ca::start().await;
    let short = ca.issue(REVIEWS, std::time::Duration::from_secs(10), now() - Duration::seconds(8));
    let mut client = ca.client().certificate(&short).await;
    assert_eq!(code(client.create(request()).await), Code::Ok);
    let deadline = tokio::time::Instant::now() + MINUTE;
    while code(client.create(request()).await) == Code::Ok {
        assert!(tokio::time::Instant::now() < deadline, "it should have run out");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(code(client.create(request()).await), Code::Unauthenticated);
}

/// CA.md A9 to A12 as far as they can be judged: nobody gets an identity that is not its own.
#[tokio::test]
async fn impersonation_is_unauthenticated() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("istio-system", "ztunnel")).await;
    let mut ask = async |kind: Option<Kind>| {
        let fields = [("ImpersonatedIdentity".to_owned(), Value { kind })].into();
        code(client.create(IstioCertificateRequest { metadata: Some(Struct { fields }), ..request() }).await)
    };
    for text in [REVIEWS, "spiffe://a,istiod.istio-system.svc,b/ns/x/sa/y", "x", " "] {
        assert_eq!(ask(Some(Kind::StringValue(text.to_owned()))).await, Code::Unauthenticated, "{text:?}");
    }
    assert_eq!(ask(Some(Kind::NumberValue(1.0))).await, Code::Unauthenticated);
    assert_eq!(ask(Some(Kind::StringValue(String::new()))).await, Code::Ok, "empty is none");
    assert_eq!(ask(Some(Kind::NullValue(0))).await, Code::Ok);
    assert_eq!(ask(None).await, Code::Ok);
    let fields = [("CertSigner".to_owned(), Value { kind: Some(Kind::StringValue(String::new())) })].into();
    let agent = IstioCertificateRequest { metadata: Some(Struct { fields }), ..request() };
    assert_eq!(code(client.create(agent).await), Code::Ok, "as istio's agent asks");
}

/// CA.md A23.
/// CA.md A16.
#[tokio::test]
async fn peers_of_other_clusters_are_unauthenticated() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    for (clusters, expected) in [
        (vec![], Code::Ok),
        (vec![""], Code::Ok),
        (vec!["Kubernetes"], Code::Ok),
        (vec!["elsewhere"], Code::Unauthenticated),
        (vec!["Kubernetes", "Kubernetes"], Code::Unauthenticated),
    ] {
        client.clusters.clone_from(&clusters);
        assert_eq!(code(client.create(request()).await), expected, "{clusters:?}");
    }
}

#[tokio::test]
async fn plaintext_peers_are_unauthenticated() {
    let ca = Ca::start().await;
    let mut client = Client::plaintext(ca.plaintext, &ca.token("shop", "reviews")).await;
    assert_eq!(code(client.create(request()).await), Code::Unauthenticated);
}

#[tokio::test]
async fn oversized_messages_are_refused_before_they_are_read() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let huge = IstioCertificateRequest { csr: "x".repeat(5 << 20), ..request() };
    assert_eq!(code(client.create(huge).await), Code::OutOfRange);
    assert_eq!(code(client.create(request()).await), Code::Ok, "the connection lives on");
}

#[tokio::test]
async fn many_at_once_get_distinct_serial_numbers() {
    let ca = Ca::start().await;
    let token = ca.token("shop", "reviews");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = ca.client().token(&token).await;
        tasks.spawn(async move {
            let mut serials = Vec::new();
            for _ in 0..10 {
                serials.push(summary(&client.create(request()).await.unwrap()).serial);
            }
            serials
        });
    }
    let mut serials: Vec<String> = tasks.join_all().await.concat();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 80);
    let metrics = ca.metrics();
    let value = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse::<f64>().unwrap())
    };
    assert_eq!(value("citadel_server_csr_count"), Some(80.0));
    assert_eq!(value("citadel_server_success_cert_issuance_count"), Some(80.0));
    assert_eq!(value("citadel_server_authentication_failure_count"), Some(0.0));
    assert!(value("citadel_server_root_cert_expiry_timestamp") > Some(1e9));
    assert_eq!(value("eastwest_ca_throttled{who=\"caller\"}"), Some(0.0));
    assert_eq!(value("eastwest_ca_issue_seconds_bucket{le=\"+Inf\"}"), Some(80.0));
    assert_eq!(value("eastwest_ca_issue_seconds_count"), Some(80.0));
    for bound in ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.1", "0.5", "2.5", "10"] {
        let bucket = format!("eastwest_ca_issue_seconds_bucket{{le=\"{bound}\"}}");
        assert!(value(&bucket).is_some(), "{bucket}: {metrics}");
    }
    for declared in [
        "# HELP citadel_server_csr_count Certificate requests received.\n# TYPE citadel_server_csr_count counter\n",
        "# TYPE citadel_server_root_cert_expiry_timestamp gauge\n",
        "# TYPE eastwest_ca_issue_seconds histogram\n",
        "# TYPE eastwest_ledger_commits counter\n",
    ] {
        assert!(metrics.contains(declared), "{declared}: {metrics}");
    }
}

#[tokio::test]
async fn the_trust_domain_can_change() {
    let ca = Ca::start().await;
    let old = ca.issue(REVIEWS, MINUTE, now());
    ca.certificate_authority.set_trust_domain(&"example.org".parse().unwrap());
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    assert_eq!(identity(&client.create(request()).await.unwrap()), "spiffe://example.org/ns/shop/sa/reviews");
    assert_eq!(code(ca.client().certificate(&old).await.create(request()).await), Code::Unauthenticated);
}
