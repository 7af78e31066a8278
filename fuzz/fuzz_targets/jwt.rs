//! Tokens and key sets: without the private key no token is accepted.
#![no_main]

use std::sync::LazyLock;

use eastwest_ca::{KeySet, PrivateKey, TokenKey, TokenVerifier, TrustedIssuer, jwt::Jwt};
use eastwest_model::TrustDomain;
use libfuzzer_sys::fuzz_target;
use time::macros::datetime;

/// A public key whose private key was thrown away.
static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let key = TokenKey::new(&PrivateKey::generate().expect("random numbers")).expect("a P-256 key");
    let keys = KeySet::from_json(&key.jwks()).expect("our own key set");
    let issuer =
        TrustedIssuer { issuer: "eastwest".to_owned(), audiences: vec!["istio-ca".to_owned()], keys };
    TokenVerifier::new(TrustDomain::parse("cluster.local").expect("a trust domain"), [issuer])
});

fuzz_target!(|text: &str| {
    let now = datetime!(2026-11-24 12:00 UTC);
    assert!(VERIFIER.verify(text, now).is_err(), "a forged token");
    let _ = Jwt::parse(text).map(|token| token.expires());
    let _ = KeySet::from_json(text).map(|keys| keys.len());
});
