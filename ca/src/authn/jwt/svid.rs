//! JWT-SVIDs (SPIFFE JWT-SVID; CA.md C36, S61 to S63): signed for a workload's own identity, and judged by the
//! bundle of the domain that they name.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use serde_json::{Map, Value, json};
use thiserror::Error;
use time::OffsetDateTime;

use super::{Jwt, KeySet, TokenError, TokenKey, TokenKeyError, Verified, mint::random_id, text};
use crate::{
    trust::spiffe_bundle::{JwtKey, SpiffeBundle},
    x509::key::PrivateKey,
};

/// Signature algorithms of JWT-SVIDs (JWT-SVID §2.1) that we verify.
const ALGORITHMS: [&str; 2] = ["ES256", "RS256"];

/// The key that signs JWT-SVIDs (ES256): another than that of service-account tokens, so that neither is ever taken
/// for the other.
#[derive(Debug)]
pub struct SvidKey(TokenKey);

impl SvidKey {
    /// A key from an ECDSA P-256 key.
    ///
    /// # Errors
    /// Another kind of key.
    pub fn new(key: &PrivateKey) -> Result<Self, TokenKeyError> {
        TokenKey::new(key).map(Self)
    }

    /// The public half, for the bundle.
    pub fn public(&self) -> JwtKey {
        let mut set: Value = serde_json::from_str(&self.0.jwks()).unwrap_or_default();
        let members = set["keys"][0].take();
        JwtKey::new(self.0.id(), members.as_object().cloned().unwrap_or_default())
    }

    /// A JWT-SVID of `identity` for `audience`, from `now` for `life`. No two have the same `jti`.
    ///
    /// # Errors
    /// A life out of range, or no random numbers.
    pub fn sign(
        &self,
        identity: &SpiffeId,
        audience: &[String],
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<SignedSvid, TokenKeyError> {
        let now = now.unix_timestamp();
        let life = i64::try_from(life.as_secs()).map_err(|_| TokenKeyError::Lifetime)?;
        let exp = now.checked_add(life).ok_or(TokenKeyError::Lifetime)?;
        let expires = OffsetDateTime::from_unix_timestamp(exp).map_err(|_| TokenKeyError::Lifetime)?;
        let jti = random_id()?;
        let claims =
            json!({"sub": identity.as_str(), "aud": audience, "iat": now, "exp": exp, "jti": jti.as_str()});
        let token = self.0.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.0.id()}), &claims)?;
        Ok(SignedSvid { token, jti, expires })
    }
}

/// A JWT-SVID and what may be told of it. Shows no token when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedSvid {
    /// The token, in the compact form of JWS.
    pub token: String,
    /// Its `jti`: 16 random bytes in hexadecimal.
    pub jti: String,
    /// Its `exp`.
    pub expires: OffsetDateTime,
}

impl fmt::Debug for SignedSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedSvid({})", self.jti)
    }
}

/// Why a token is no JWT-SVID that we accept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SvidError {
    /// What any token may lack.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Not one of the algorithms, `none` above all.
    #[error("the algorithm {0:?} is not allowed: ES256 and RS256 are")]
    Algorithm(String),
    /// `typ` is there, but neither JWT nor JOSE.
    #[error("the token's type is {0:?}, neither JWT nor JOSE")]
    Type(String),
    /// `sub` is no SPIFFE ID.
    #[error("the token's subject is no SPIFFE ID: {0}")]
    Subject(#[from] IdentityError),
    /// No bundle of the subject's domain, or no key in it that fits.
    #[error("no key of the trust domain {domain} is known for kid {kid:?}")]
    NoKey {
        /// The subject's domain.
        domain: TrustDomain,
        /// The key named.
        kid: Option<String>,
    },
}

/// Who `token` speaks of and all of its claims, if it is for `audience` and signed by a key of the subject's own trust
/// domain.
///
/// # Errors
/// See [`SvidError`].
pub fn verify_svid(
    token: &str,
    audience: &str,
    bundles: &BTreeMap<TrustDomain, SpiffeBundle>,
    now: OffsetDateTime,
) -> Result<(SpiffeId, Map<String, Value>), SvidError> {
    let token = Jwt::of_anybody(token)?;
    if !ALGORITHMS.contains(&token.alg.as_str()) {
        return Err(SvidError::Algorithm(token.alg));
    }
    if let Some(typ) = token.typ.as_ref().filter(|&typ| typ != "JWT" && typ != "JOSE") {
        return Err(SvidError::Type(typ.clone()));
    }
    let subject = text(&token.claims, "sub")?.ok_or(TokenError::Malformed("no sub"))?;
    let subject = SpiffeId::parse(subject)?;
    let domain = subject.trust_domain();
    let verified = match bundles.get(&domain).and_then(|bundle| verify(&token, bundle, now)) {
        Some(verified) => verified?,
        None => return Err(SvidError::NoKey { domain, kid: token.kid }),
    };
    verified.is_for(&[audience.to_owned()])?;
    Ok((subject, Arc::unwrap_or_clone(verified.claims)))
}

/// By the keys of `bundle` that the token may mean; `None` if there is no such key.
fn verify(
    token: &Jwt<'_>,
    bundle: &SpiffeBundle,
    now: OffsetDateTime,
) -> Option<Result<Verified, TokenError>> {
    let named = |key: &&JwtKey| token.kid.as_deref().is_none_or(|kid| kid == key.kid());
    // Key by key, so that one of a kind that we cannot use spoils no other.
    let sets =
        bundle.jwt_keys().iter().filter(named).filter_map(|key| KeySet::from_json(&key.key_set()).ok());
    sets.map(|set| token.verify(&set, now)).reduce(Result::or)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::bundle::TrustBundle;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-28 12:00 UTC);
    const LIFE: Duration = Duration::from_secs(300);

    fn key() -> SvidKey {
        SvidKey::new(&PrivateKey::generate().unwrap()).unwrap()
    }

    fn reviews() -> SpiffeId {
        SpiffeId::parse("spiffe://td/ns/shop/sa/reviews").unwrap()
    }

    fn trusting(domain: &str, keys: &[&SvidKey]) -> BTreeMap<TrustDomain, SpiffeBundle> {
        let keys = keys.iter().map(|key| key.public()).collect();
        [(TrustDomain::parse(domain).unwrap(), SpiffeBundle::default().with_jwt_keys(keys))].into()
    }

    #[test]
    fn a_svid_is_good_for_its_audience_its_time_and_its_domain() {
        let (key, other) = (key(), key());
        let signed = key.sign(&reviews(), &["vault".into(), "db".into()], LIFE, NOW).unwrap();
        let token = signed.token.clone();
        let known = trusting("td", &[&other, &key]);
        let (subject, claims) = verify_svid(&token, "db", &known, NOW).unwrap();
        assert_eq!((subject, &claims["aud"]), (reviews(), &json!(["vault", "db"])));
        assert_eq!(claims["exp"], NOW.unix_timestamp() + 300);
        assert_eq!((&claims["jti"], signed.expires), (&json!(signed.jti), NOW + LIFE));
        assert!(!format!("{signed:?}").contains(&token));
        let verify = |audience: &str, known: &_, now| verify_svid(&token, audience, known, now);
        assert!(matches!(verify("x", &known, NOW), Err(SvidError::Token(TokenError::Audience(_)))));
        assert!(matches!(verify("db", &known, NOW + LIFE), Err(SvidError::Token(TokenError::Expired(_)))));
        for unknown in [trusting("td", &[&other]), trusting("other", &[&key]), BTreeMap::new()] {
            assert!(matches!(verify("db", &unknown, NOW), Err(SvidError::NoKey { .. })));
        }
        let mut forged = token.clone();
        forged.replace_range(token.len() - 6.., "AAAAAA");
        let forged = verify_svid(&forged, "db", &known, NOW);
        assert!(matches!(forged, Err(SvidError::Token(_))), "{forged:?}");
    }

    #[test]
    fn what_a_svid_must_have() {
        let key = key();
        let known = trusting("td", &[&key]);
        let good = json!({"sub": reviews().as_str(), "aud": "db", "exp": NOW.unix_timestamp() + 9});
        let header = json!({"alg": "ES256", "kid": key.0.id()});
        let verify = |header: &Value, claims: &Value| {
            verify_svid(&key.0.sign(header, claims).unwrap(), "db", &known, NOW)
        };
        assert!(verify(&header, &good).is_ok());
        assert!(verify(&json!({"alg": "ES256"}), &good).is_ok(), "no kid: any key of the domain");
        for alg in ["none", "None", "HS256", "EdDSA", "", "es256"] {
            let refused = verify(&json!({"alg": alg, "kid": key.0.id()}), &good);
            assert_eq!(refused, Err(SvidError::Algorithm(alg.into())));
        }
        for (member, value) in [("typ", json!("JWE")), ("crit", json!(["exp"])), ("kid", json!("other"))] {
            let mut header = header.clone();
            header[member] = value;
            assert!(verify(&header, &good).is_err(), "{header}");
        }
        for missing in ["aud", "exp", "sub"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(missing);
            assert!(verify(&header, &claims).is_err(), "no {missing}");
        }
        let far = NOW.unix_timestamp() + 3600;
        for (member, value) in [("sub", json!("system:reviews")), ("aud", json!([])), ("nbf", json!(far))] {
            let mut claims = good.clone();
            claims[member] = value;
            assert!(verify(&header, &claims).is_err(), "{claims}");
        }
        for text in ["", "a.b", "a.b.c", &"x".repeat(super::super::MAX_TOKEN_BYTES + 1)] {
            assert!(verify_svid(text, "db", &known, NOW).is_err());
        }
    }

    #[test]
    fn the_public_key_stands_in_the_bundle_with_use_and_kid() {
        let key = key();
        let root = crate::issuing::new_root::self_signed_root(
            &TrustDomain::parse("td").unwrap(),
            &PrivateKey::generate().unwrap(),
            NOW,
        );
        let roots = TrustBundle::new(vec![root.unwrap()]).unwrap();
        let bundle = SpiffeBundle::of_roots(&roots).with_jwt_keys(vec![key.public()]);
        let document: Value = serde_json::from_str(&bundle.to_json()).unwrap();
        let entry = &document["keys"][1];
        assert_eq!((&entry["use"], &entry["kid"]), (&json!("jwt-svid"), &json!(key.0.id())));
        assert!(entry.get("d").is_none() && entry.get("x5c").is_none());
        assert_eq!(SpiffeBundle::from_json(&bundle.to_json()), Ok(bundle));
    }
}
