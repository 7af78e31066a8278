//! Tokens that are forged, twisted or ambiguous (CA.md A17, A18, A21, A23, and more of their kind).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_ca::KeySet;
use eastwest_ca_server::{IssuerKeys, ProofConfig};
use ring::hmac;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tonic::Code;

use super::{
    common::{Ca, Client, request},
    issuer::{Issuer, merge},
};

async fn start(issuer: &Issuer) -> Ca {
    let keys = KeySet::from_json(&issuer.jwks()).unwrap();
    let issuers = vec![IssuerKeys::fixed(issuer.name.clone(), keys)];
    Ca::start_with(ProofConfig { issuers, ..ProofConfig::default() }).await
}

async fn code_of(client: &mut Client) -> Code {
    client.create(request()).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn code(ca: &Ca, token: &str) -> Code {
    code_of(&mut ca.client().token(token).await).await
}

fn issuer() -> Issuer {
    Issuer::new("https://cluster", "k")
}

/// CA.md A17 and B45 to B49: what the header says about keys and algorithms decides nothing.
#[tokio::test]
async fn headers_choose_neither_key_nor_algorithm() {
    let issuer = issuer();
    let ca = start(&issuer).await;
    let claims = issuer.claims("shop/reviews", json!({})).to_string();
    let sign = |changes: Value| {
        let mut header = issuer.header();
        merge(&mut header, changes);
        issuer.sign(&header.to_string(), &claims)
    };
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "NONE"}),
        json!({"alg": ""}),
        json!({"alg": null}),
        json!({"alg": "es256"}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": ["ES256"]}),
        json!({"alg": 256}),
        json!({"kid": "K"}),
        json!({"kid": "k\u{0}"}),
        json!({"kid": " k"}),
        json!({"kid": ""}),
        json!({"kid": "../../etc/passwd"}),
        json!({"kid": "k' OR '1'='1"}),
        json!({"kid": ["k"]}),
        json!({"kid": {"k": "k"}}),
        json!({"crit": []}),
        json!({"crit": ["exp"]}),
        json!({"b64": false, "crit": ["b64"]}),
    ] {
        assert_eq!(code(&ca, &sign(header.clone())).await, Code::Unauthenticated, "{header}");
    }
    assert_eq!(
        code(&ca, &sign(json!({"kid": null}))).await,
        Code::Ok,
        "without a name, any key of the issuer"
    );

    // Keys that the token brings along, or points to, are not looked at.
    let evil = Issuer::new("https://cluster", "k");
    for carried in [
        json!({"jwk": evil.jwk()}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/cert", "x5c": ["MIIB"]}),
        json!({"kid": null, "jwk": evil.jwk()}),
    ] {
        let mut header = evil.header();
        merge(&mut header, carried.clone());
        assert_eq!(
            code(&ca, &evil.sign(&header.to_string(), &claims)).await,
            Code::Unauthenticated,
            "{carried}"
        );
        assert_eq!(code(&ca, &sign(carried)).await, Code::Ok, "beside a good signature they do no harm");
    }

    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(r#"{"alg":"HS256","kid":"k"}"#), encode(&claims));
    for secret in [issuer.jwks(), issuer.jwk().to_string(), issuer.jwk()["x"].to_string(), String::new()] {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac));
        assert_eq!(code(&ca, &forged).await, Code::Unauthenticated);
    }
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims));
    assert_eq!(code(&ca, &unsigned).await, Code::Unauthenticated);
}

/// CA.md A18, A21 and B50 to B55.
#[tokio::test]
async fn claims_must_say_exactly_what_is_asked() {
    let issuer = issuer();
    let ca = start(&issuer).await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for claims in [
        json!({"iss": "https://other"}),
        json!({"iss": "https://cluster/"}),
        json!({"iss": "HTTPS://cluster"}),
        json!({"iss": ["https://cluster"]}),
        json!({"iss": null}),
        json!({"aud": null}),
        json!({"aud": []}),
        json!({"aud": ""}),
        json!({"aud": "istio-ca "}),
        json!({"aud": "Istio-CA"}),
        json!({"aud": "istio-ca,other"}),
        json!({"aud": {"istio-ca": true}}),
        json!({"aud": ["other", 1]}),
        json!({"aud": ["istio-ca", {}]}),
        json!({"aud": [["istio-ca"]]}),
        json!({"exp": null}),
        json!({"exp": now - 1}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"exp": (now - 60) as f64 + 0.9}),
        json!({"exp": 1e300}),
        json!({"exp": (now + 600).to_string()}),
        json!({"exp": true}),
        json!({"exp": [now + 600]}),
        json!({"exp": u64::MAX}),
        json!({"nbf": now + 60}),
        json!({"nbf": "0"}),
        json!({"nbf": 1e300}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "system:serviceaccount:shop"}),
        json!({"sub": "system:serviceaccount:shop:a:b"}),
        json!({"sub": "system:serviceaccountx:shop:a"}),
        json!({"sub": "System:serviceaccount:shop:a"}),
        json!({"sub": " system:serviceaccount:shop:a"}),
        json!({"sub": "system:serviceaccount:shop:a "}),
        json!({"sub": "system:serviceaccount:shop:a\u{0}"}),
        json!({"sub": "system:serviceaccount:shop:a/sa/istiod"}),
        json!({"sub": "system:serviceaccount:shop/sa/x:a"}),
        json!({"sub": "system:serviceaccount:sho\u{0440}:a"}),
        json!({"sub": "system:serviceaccount:shop:..".to_owned()}),
        json!({"sub": format!("system:serviceaccount:shop:{}", "a".repeat(254))}),
        json!({"sub": "system:node:n1"}),
        json!({"sub": "system:anonymous"}),
        json!({"kubernetes.io": "x"}),
        json!({"kubernetes.io": {"pod": "reviews-0"}}),
        json!({"kubernetes.io": {"pod": {"uid": "u"}}}),
        json!({"kubernetes.io": {"namespace": "other"}}),
        json!({"kubernetes.io": {"serviceaccount": {"name": "istiod"}}}),
    ] {
        let token = issuer.token("shop/reviews", claims.clone());
        assert_eq!(code(&ca, &token).await, Code::Unauthenticated, "{claims}");
    }
    for claims in [json!({"aud": "istio-ca"}), json!({"exp": now as f64 + 600.5}), json!({"nbf": null})] {
        let token = issuer.token("shop/reviews", claims.clone());
        assert_eq!(code(&ca, &token).await, Code::Ok, "{claims}");
    }
}

/// Of two members with one name, or two ways to write one token, readers could believe different ones.
#[tokio::test]
async fn ambiguous_tokens_are_refused() {
    let issuer = issuer();
    let ca = start(&issuer).await;
    let (header, claims) =
        (issuer.header().to_string(), issuer.claims("shop/reviews", json!({})).to_string());
    let with = |member: &str| format!("{},{member}}}", claims.strip_suffix('}').unwrap());
    for bad in [
        with(r#""sub":"system:serviceaccount:istio-system:istiod""#),
        with(r#""\u0073ub":"system:serviceaccount:istio-system:istiod""#),
        with(r#""aud":"other""#),
        with(r#""unknown":1,"unknown":2"#),
        with(r#""deep":{"a":1,"a":1}"#),
        with(&format!(r#""deep":{}{}"#, "[".repeat(1000), "]".repeat(1000))),
        with(r#""x":"\ud800""#),
        with(r#""x":1e999"#),
        with(r#""x":01"#),
        with(r#""x":NaN"#),
        format!("{claims}x"),
        format!("{claims}{claims}"),
        format!("[{claims}]"),
        format!("\u{feff}{claims}"),
        claims.replace('"', "'"),
        "null".to_owned(),
        String::new(),
    ] {
        assert_eq!(code(&ca, &issuer.sign(&header, &bad)).await, Code::Unauthenticated, "{bad:.300}");
    }
    for bad in
        [r#"{"alg":"ES256","alg":"none"}"#, r#"{"alg":"none","alg":"ES256"}"#, "[]", "", "{", "\"ES256\""]
    {
        assert_eq!(code(&ca, &issuer.sign(bad, &claims)).await, Code::Unauthenticated, "{bad}");
    }
    let good = issuer.sign(&header, &claims);
    let [first, second, third] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for bad in [
        format!("{good}="),
        format!("{good}=="),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{third}"),
        format!("{first}.{second}"),
        format!("{first}..{third}"),
        format!("{first}.{second}.{}", &third[..third.len() - 4]),
        format!("{first}.{second}.{}", third.replace(['-', '_'], "+")) + "+",
        format!("{first} .{second}.{third}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good},{good}"),
        format!("{good} {good}"),
        format!("{first}.{second}.{}", "A".repeat(86)),
        format!("{first}.{second}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64])),
        format!("{first}.{second}.{}", URL_SAFE_NO_PAD.encode([0xff_u8; 64])),
        format!("{first}.{}.{third}", "A".repeat(12_000)),
    ] {
        assert_eq!(code(&ca, &bad).await, Code::Unauthenticated, "{bad:.200}");
    }
    assert_eq!(code(&ca, &good).await, Code::Ok);
}

/// A token is believed in one place alone (CA.md A23: a proxy's header about a client's certificate says nothing).
#[tokio::test]
async fn tokens_count_in_the_one_authorization_header() {
    let issuer = issuer();
    let ca = start(&issuer).await;
    let good = issuer.token("shop/reviews", json!({}));
    let bearer = format!("Bearer {good}");
    for (headers, expected) in [
        (vec![bearer.clone()], Code::Ok),
        (vec![format!("bearer {good}")], Code::Ok),
        (vec![bearer.clone(), bearer.clone()], Code::Unauthenticated),
        (vec!["Basic YTpi".to_owned(), bearer.clone()], Code::Unauthenticated),
        (vec![bearer.clone(), "Bearer x".to_owned()], Code::Unauthenticated),
        (vec![format!("{bearer}, Bearer x")], Code::Unauthenticated),
        (vec![format!("Bearer  {good}")], Code::Unauthenticated),
        (vec![format!("Bearer\t{good}")], Code::Unauthenticated),
        (vec![format!("Bearer{good}")], Code::Unauthenticated),
        (vec![format!("Token {good}")], Code::Unauthenticated),
        (vec![good.clone()], Code::Unauthenticated),
        (vec!["Bearer ".to_owned()], Code::Unauthenticated),
        (vec!["Bearer".to_owned()], Code::Unauthenticated),
        (vec![String::new()], Code::Unauthenticated),
    ] {
        let values: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(code_of(&mut ca.client().headers(&values).await).await, expected, "{headers:.80?}");
    }
    let xfcc = r#"By=spiffe://cluster.local/ns/x/sa/y;Hash=00;Subject="";URI=spiffe://cluster.local/ns/shop/sa/reviews"#;
    for (name, value) in [
        ("x-forwarded-client-cert", xfcc),
        ("x-authorization", &bearer),
        ("proxy-authorization", &bearer),
        ("x-forwarded-authorization", &bearer),
        ("cookie", &good),
        ("authorization-bin", "AAAA"),
    ] {
        let mut client = ca.client().anonymous().await;
        client.headers.push((name, value.to_owned()));
        assert_eq!(code_of(&mut client).await, Code::Unauthenticated, "{name}");
        let mut plain = Client::plaintext(ca.plaintext, &good).await;
        plain.headers.push((name, value.to_owned()));
        assert_eq!(code_of(&mut plain).await, Code::Unauthenticated, "{name} by plaintext");
    }
}
