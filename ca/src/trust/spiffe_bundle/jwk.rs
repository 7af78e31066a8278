//! One entry of a bundle: a certificate or a JWT key as a JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use x509_parser::{certificate::X509Certificate, public_key::PublicKey};

use super::JwtKey;
use crate::x509;

/// `use` of a root certificate (X509-SVID §6.2).
pub(super) const X509: &str = "x509-svid";
/// `use` of a key for JWT-SVIDs (JWT-SVID §4).
pub(super) const JWT: &str = "jwt-svid";

/// The members that a public key may have beside `use`; whatever else an entry holds, a private part above all, is
/// not passed on.
const PUBLIC: [&str; 8] = ["kty", "kid", "alg", "crv", "x", "y", "n", "e"];
/// The kinds of key that we know.
const KINDS: [&str; 3] = ["EC", "RSA", "OKP"];
/// Contents of the object identifier of Ed25519 (RFC 8410 §3).
const ED25519: &[u8] = b"\x2b\x65\x70";

/// What one entry of the array `keys` is.
pub(super) enum Entry {
    Certificate(CertificateDer<'static>),
    Jwt(JwtKey),
    /// Of a kind or use that is not ours to know, or without what its use demands.
    Skipped,
}

/// Reads one entry.
///
/// # Errors
/// The member that is there but damaged, and how.
pub(super) fn read(entry: &Value) -> Result<Entry, (&'static str, &'static str)> {
    let text = |member: &str| entry.get(member).and_then(Value::as_str);
    if !text("kty").is_some_and(|kty| KINDS.contains(&kty)) {
        return Ok(Entry::Skipped);
    }
    match text("use") {
        Some(X509) => match entry.get("x5c").and_then(Value::as_array).and_then(|chain| chain.first()) {
            Some(first) => certificate(first).map_err(|problem| ("x5c", problem)),
            None => Ok(Entry::Skipped),
        },
        Some(JWT) => Ok(text("kid").map_or(Entry::Skipped, |kid| Entry::Jwt(jwt_key(entry, kid)))),
        _ => Ok(Entry::Skipped),
    }
}

fn certificate(base64: &Value) -> Result<Entry, &'static str> {
    let der = base64.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or("is not base64")?;
    let parsed = x509::parse(&der).ok_or("is no certificate")?;
    if let Some(problem) = x509::not_a_ca(&parsed) {
        return Err(problem);
    }
    match public_members(&parsed) {
        Some(_) => Ok(Entry::Certificate(der.into())),
        None => Ok(Entry::Skipped),
    }
}

/// A JWK named `kid` with the public members of `entry`.
pub(super) fn jwt_key(entry: &Value, kid: &str) -> JwtKey {
    let public = |member: &str| Some((member.to_owned(), entry.get(member)?.clone()));
    let mut members: Map<_, _> = PUBLIC.iter().filter_map(|member| public(member)).collect();
    members.insert("use".to_owned(), JWT.into());
    members.insert("kid".to_owned(), kid.into());
    JwtKey { kid: kid.to_owned(), members }
}

/// The entry of a root: its public key, its use and one certificate; no `kid` (X509-SVID §6.2).
pub(super) fn write(certificate: &CertificateDer<'_>) -> Value {
    let parsed = x509::parse(certificate);
    let members = parsed.as_ref().and_then(public_members).unwrap_or_default();
    let text = |(name, value): (&str, String)| (name.to_owned(), Value::String(value));
    let mut entry: Map<_, _> = members.into_iter().map(text).collect();
    entry.insert("use".to_owned(), X509.into());
    entry.insert("x5c".to_owned(), vec![STANDARD.encode(certificate)].into());
    Value::Object(entry)
}

/// The public key of a certificate as members of a JWK; `None` for a kind that we do not know.
fn public_members(certificate: &X509Certificate<'_>) -> Option<Vec<(&'static str, String)>> {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::EC(point)) => {
            // 4 and both coordinates (SEC 1 §2.3.3).
            let (curve, half) = match point.data() {
                [4, rest @ ..] if rest.len() == 64 => ("P-256", 32),
                [4, rest @ ..] if rest.len() == 96 => ("P-384", 48),
                [4, rest @ ..] if rest.len() == 132 => ("P-521", 66),
                _ => return None,
            };
            let (x, y) = point.data()[1..].split_at(half);
            Some(vec![("kty", "EC".to_owned()), ("crv", curve.to_owned()), ("x", url(x)), ("y", url(y))])
        }
        Ok(PublicKey::RSA(rsa)) => {
            let number = |bytes: &[u8]| url(&bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..]);
            Some(vec![("kty", "RSA".to_owned()), ("n", number(rsa.modulus)), ("e", number(rsa.exponent))])
        }
        _ if key.algorithm.algorithm.as_bytes() == ED25519 => Some(vec![
            ("kty", "OKP".to_owned()),
            ("crv", "Ed25519".to_owned()),
            ("x", url(&key.subject_public_key.data)),
        ]),
        _ => None,
    }
}

fn url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
