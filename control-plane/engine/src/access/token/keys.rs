//! Signatures of tokens, verified as Envoy does: a key's own `alg` and `kid` must be those of the token, and its kind must
//! fit the algorithm.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use serde_json::{Map, Value};

/// Verifies a signature with some key of a key set.
///
/// # Errors
/// Why no key does.
pub(super) fn verify(
    set: &str,
    header: &Map<String, Value>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let alg = header.get("alg").and_then(Value::as_str).ok_or("it names no algorithm")?;
    let kid = header.get("kid").and_then(Value::as_str).unwrap_or_default();
    let set: Value = serde_json::from_str(set).unwrap_or_default();
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = |key: &&Value, name: &str, wanted: &str| {
        let own = key[name].as_str().unwrap_or_default();
        own.is_empty() || wanted.is_empty() || own == wanted
    };
    let mut fitting = keys.iter().filter(|key| fits(key, "kid", kid) && fits(key, "alg", alg)).peekable();
    if fitting.peek().is_none() {
        return Err(format!("no key of its issuer is named {kid:?} and is for {alg}"));
    }
    match fitting.any(|key| verifies(key, alg, message, signature)) {
        true => Ok(()),
        false => Err("its signature is not by its issuer".to_owned()),
    }
}

fn verifies(key: &Value, alg: &str, message: &[u8], signature: &[u8]) -> bool {
    let bytes = |name: &str| {
        let text = key[name].as_str().unwrap_or_default().trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
    };
    match key["kty"].as_str().unwrap_or_default() {
        "RSA" => rsa(alg).is_some_and(|parameters| {
            let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            let key = RsaPublicKeyComponents { n: strip(bytes("n")), e: strip(bytes("e")) };
            key.verify(parameters, message, signature).is_ok()
        }),
        "EC" => ec(alg, key["crv"].as_str().unwrap_or_default()).is_some_and(|algorithm| {
            let point = [&[4], &bytes("x")[..], &bytes("y")[..]].concat();
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        }),
        "OKP" => {
            alg == "EdDSA" && UnparsedPublicKey::new(&ED25519, bytes("x")).verify(message, signature).is_ok()
        }
        "oct" => mac(alg).is_some_and(|algorithm| {
            hmac::verify(&hmac::Key::new(algorithm, &bytes("k")), message, signature).is_ok()
        }),
        _ => false,
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    Some(match alg {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn ec(alg: &str, curve: &str) -> Option<&'static EcdsaVerificationAlgorithm> {
    match (alg, curve) {
        ("ES256", "P-256") => Some(&ECDSA_P256_SHA256_FIXED),
        ("ES384", "P-384") => Some(&ECDSA_P384_SHA384_FIXED),
        _ => None,
    }
}

fn mac(alg: &str) -> Option<hmac::Algorithm> {
    match alg {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}
