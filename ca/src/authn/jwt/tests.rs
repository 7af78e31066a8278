//! Tokens that are good, and tokens that are not (CA.md A17, A18 and A21).

use std::time::Duration as Seconds;

use ring::{hmac, rand::SystemRandom, signature};
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::x509::key::PrivateKey;

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);

struct Fixture {
    key: TokenKey,
    verifier: TokenVerifier,
}

impl Fixture {
    fn new() -> Self {
        let key = TokenKey::new(&PrivateKey::generate().unwrap()).unwrap();
        let verifier = verifier(&key.jwks());
        Self { key, verifier }
    }

    /// The verdict on a good token with some of its header and claims changed.
    fn check(&self, header: Value, claims: Value) -> Result<String, TokenError> {
        let token =
            self.key.sign(&merged(good_header(&self.key), header), &merged(good_claims(), claims)).unwrap();
        self.verifier.verify(&token, NOW).map(|caller| caller.identity.to_string())
    }
}

fn verifier(jwks: &str) -> TokenVerifier {
    let trusted = TrustedIssuer {
        issuer: "https://issuer".to_owned(),
        audiences: vec!["istio-ca".to_owned()],
        keys: KeySet::from_json(jwks).unwrap(),
    };
    TokenVerifier::new(TrustDomain::parse("td").unwrap(), [trusted])
}

fn good_header(key: &TokenKey) -> Value {
    let jwks: Value = serde_json::from_str(&key.jwks()).unwrap();
    json!({"alg": "ES256", "kid": jwks["keys"][0]["kid"]})
}

fn good_claims() -> Value {
    let now = NOW.unix_timestamp();
    json!({"iss": "https://issuer", "sub": "system:serviceaccount:shop:reviews", "aud": ["other", "istio-ca"],
        "exp": now + 600, "nbf": now})
}

/// `null` removes a member.
fn merged(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

#[test]
fn minted_tokens_are_good_until_they_expire() {
    let Fixture { key, verifier } = Fixture::new();
    let request = TokenRequest {
        issuer: "https://issuer",
        namespace: "shop",
        service_account: "reviews.v1",
        audience: "istio-ca",
        lifetime: Seconds::from_secs(60),
    };
    let token = key.mint(request, NOW).unwrap();
    let caller = verifier.verify(&token, NOW).unwrap();
    assert_eq!(caller.identity.as_str(), "spiffe://td/ns/shop/sa/reviews.v1");
    assert_eq!(caller.proof.expires(), Some(NOW + Duration::seconds(60)));
    assert!(verifier.verify(&token, NOW + Duration::seconds(59)).is_ok());
    assert!(matches!(verifier.verify(&token, NOW + Duration::seconds(60)), Err(TokenError::Expired(_))));
    assert!(verifier.verify(&token, NOW - Duration::seconds(5)).is_ok(), "clocks differ a little");
    assert!(matches!(verifier.verify(&token, NOW - Duration::minutes(5)), Err(TokenError::NotYet(_))));
    assert_ne!(key.mint(request, NOW).unwrap().split('.').nth(1), token.split('.').nth(1), "jti differs");
    for bad in ["a/b", "", "A"] {
        let refused = key.mint(TokenRequest { namespace: bad, ..request }, NOW);
        assert!(matches!(refused, Err(TokenKeyError::ServiceAccount(_))), "{bad}");
    }
    let far = TokenRequest { lifetime: Seconds::MAX, ..request };
    assert_eq!(key.mint(far, NOW), Err(TokenKeyError::Lifetime));
}

#[test]
fn good_variants() {
    let f = Fixture::new();
    let now = NOW.unix_timestamp();
    for (header, claims) in [
        (json!({}), json!({})),
        (json!({"kid": null}), json!({})),
        (json!({"typ": "JWT"}), json!({"aud": "istio-ca"})),
        (json!({}), json!({"nbf": null, "exp": 1e10, "iat": now + 99})),
        (
            json!({}),
            json!({"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "reviews", "uid": "u"},
            "pod": {"name": "p", "uid": "q"}, "node": {"name": "n", "uid": "m"}}}),
        ),
    ] {
        let verdict = f.check(header.clone(), claims.clone());
        assert_eq!(verdict.as_deref(), Ok("spiffe://td/ns/shop/sa/reviews"), "{header} {claims}");
    }
}

#[test]
fn bound_objects_are_kept() {
    let f = Fixture::new();
    let pod = json!({"kubernetes.io": {"pod": {"name": "p", "uid": "q"}, "node": {"name": "n", "uid": "m"}}});
    let token = f.key.sign(&good_header(&f.key), &merged(good_claims(), pod)).unwrap();
    let Proof::Token { pod, node, .. } = f.verifier.verify(&token, NOW).unwrap().proof else { panic!() };
    let bound = |name: &str, uid: &str| Some(BoundObject { name: name.into(), uid: uid.into() });
    assert_eq!((pod, node), (bound("p", "q"), bound("n", "m")));
}

#[test]
fn bad_claims() {
    let f = Fixture::new();
    let now = NOW.unix_timestamp();
    for claims in [
        json!({"iss": "https://other"}),
        json!({"iss": "https://issuer/"}),
        json!({"iss": null}),
        json!({"aud": null}),
        json!({"aud": []}),
        json!({"aud": "istio-ca2"}),
        json!({"aud": ["ISTIO-CA"]}),
        json!({"exp": null}),
        json!({"exp": now}),
        json!({"exp": now - 600}),
        json!({"exp": "tomorrow"}),
        json!({"exp": 1e300}),
        json!({"exp": u64::MAX}),
        json!({"exp": i64::MAX}),
        json!({"nbf": now + 60}),
        json!({"nbf": i64::MIN}),
        json!({"nbf": 253_402_300_799_i64}),
        json!({"sub": null}),
        json!({"sub": "system:serviceaccount:shop"}),
        json!({"sub": "system:serviceaccount:shop:a:b"}),
        json!({"sub": "system:serviceaccountx:shop:a"}),
        json!({"sub": "xsystem:serviceaccount:shop:a"}),
        json!({"sub": "system:serviceaccount::a"}),
        json!({"sub": "system:serviceaccount:shop:"}),
        json!({"sub": "system:serviceaccount:a/b:c"}),
        json!({"sub": "system:serviceaccount:shop:a/../b"}),
        json!({"sub": "system:serviceaccount:SHOP:a"}),
        json!({"sub": "system:serviceaccount:shop:a,b"}),
        json!({"sub": "system:node:n"}),
        json!({"kubernetes.io": {"namespace": "other"}}),
        json!({"kubernetes.io": {"serviceaccount": {"name": "other"}}}),
        json!({"kubernetes.io": 5}),
    ] {
        assert!(f.check(json!({}), claims.clone()).is_err(), "{claims} must be refused");
    }
}

/// CA.md A17: the algorithm is the key's, not the token's.
#[test]
fn algorithms_are_pinned() {
    let f = Fixture::new();
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "es256"}),
        json!({"alg": null}),
        json!({"kid": "other"}),
        json!({"crit": ["exp"]}),
    ] {
        assert!(f.check(header.clone(), json!({})).is_err(), "{header} must be refused");
    }
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = encode(good_claims());
    let unsigned = format!("{}.{claims}.", encode(json!({"alg": "none"})));
    assert!(f.verifier.verify(&unsigned, NOW).is_err());
    let message = format!("{}.{claims}", encode(json!({"alg": "HS256"})));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, f.key.jwks().as_bytes()), message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac));
    assert!(f.verifier.verify(&forged, NOW).is_err());
}

#[test]
fn damaged_tokens() {
    let f = Fixture::new();
    let good = f.key.sign(&good_header(&f.key), &good_claims()).unwrap();
    assert!(f.verifier.verify(&good, NOW).is_ok());
    let stranger = Fixture::new().key.sign(&good_header(&f.key), &good_claims()).unwrap();
    assert_eq!(f.verifier.verify(&stranger, NOW), Err(TokenError::Signature));
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        "....",
        &good[1..],
        &format!("{good}="),
        &format!("{good}.x"),
        &format!(" {good}"),
    ] {
        assert!(f.verifier.verify(bad, NOW).is_err(), "{bad:?}");
    }
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = URL_SAFE_NO_PAD
        .encode(merged(good_claims(), json!({"sub": "system:serviceaccount:a:b"})).to_string());
    parts[1] = &other;
    assert_eq!(f.verifier.verify(&parts.join("."), NOW), Err(TokenError::Signature));
    let long = "a".repeat(MAX_TOKEN_BYTES + 1);
    assert_eq!(f.verifier.verify(&long, NOW), Err(TokenError::TooLarge(long.len())));
    let deep =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode("[".repeat(5000)), URL_SAFE_NO_PAD.encode("[".repeat(5000)));
    assert!(matches!(f.verifier.verify(&deep, NOW), Err(TokenError::Malformed(_))));
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"none"}"#);
    assert!(matches!(
        f.verifier.verify(&format!("{twice}.e30.AA"), NOW),
        Err(TokenError::Malformed("header"))
    ));
}

#[test]
fn eddsa_and_rsa_keys() {
    let pair = signature::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = signature::Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(signature::KeyPair::public_key(&pair).as_ref());
    let jwks = json!({"keys": [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-384", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"},
        {"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "ES256"},
        {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "ed"},
    ]});
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(json!({"alg": "EdDSA", "kid": "ed"})), encode(good_claims()));
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())));
    assert!(verifier(&jwks.to_string()).verify(&token, NOW).is_ok());
}

/// RFC 7515 appendix A.2: an RS256 signature made elsewhere.
#[test]
fn rs256_test_vector() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let set =
        |e: &str, n: &str| KeySet::from_json(&json!({"keys": [{"kty": "RSA", "n": n, "e": e}]}).to_string());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let keys = set("AQAB", n).unwrap();
    assert_eq!(keys.verify(None, "RS256", message.as_bytes(), &signature), Ok(()));
    assert_eq!(keys.verify(None, "RS256", &message.as_bytes()[1..], &signature), Err(TokenError::Signature));
    assert!(keys.verify(None, "ES256", message.as_bytes(), &signature).is_err());
    assert_eq!(set("AQ", n).err(), Some(KeySetError::Key { index: 0, member: "e" }), "e = 1");
    assert_eq!(set("AQAB", &n[..100]).err(), Some(KeySetError::Key { index: 0, member: "n" }));
}

#[test]
fn key_sets_that_are_none() {
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys": 1}"#,
        r#"{"keys": []}"#,
        r#"{"keys": [{"kty": "oct"}]}"#,
        r#"{"keys": [{}]}"#,
    ] {
        assert!(KeySet::from_json(bad).is_err(), "{bad}");
    }
    let half = r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA"}]}"#;
    assert_eq!(KeySet::from_json(half).err(), Some(KeySetError::Key { index: 0, member: "x" }));
    let many = json!({"keys": vec![json!({"kty": "oct"}); MAX_TEST_KEYS]}).to_string();
    assert_eq!(KeySet::from_json(&many).err(), Some(KeySetError::TooMany(MAX_TEST_KEYS)));
}

const MAX_TEST_KEYS: usize = 65;
