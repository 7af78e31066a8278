//! Service-account tokens (JWT, RFC 7519), judged on the spot with the issuer's public keys (ca.md section 3).

mod jwks;
mod mint;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_model::{SpiffeId, TrustDomain, identity::IdentityError};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::caller::{BoundObject, Caller, Proof};

pub use jwks::{Algorithm, KeySet, KeySetError};
pub use mint::{TokenKey, TokenKeyError, TokenRequest};

/// Largest token in bytes; Kubernetes' are about 1 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the issuer's clock may be ahead of ours. `exp` gets no such grace: tokens live for minutes at least.
const NOT_BEFORE_LEEWAY: Duration = Duration::seconds(10);

/// Why a token proves no identity. The text goes to our log, never to the peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More than 16 KiB.
    #[error("the token has {0} bytes, more than {MAX_TOKEN_BYTES}")]
    TooLarge(usize),
    /// Not three base64url parts with JSON in the first two.
    #[error("the token is not a JWT: {0}")]
    Malformed(&'static str),
    /// `iss` is not one that we trust.
    #[error("the token's issuer {0:?} is not trusted")]
    Issuer(String),
    /// No key of the issuer fits `kid` and `alg`.
    #[error("the issuer has no key {kid:?} for algorithm {alg:?}")]
    Key {
        /// The key named.
        kid: Option<String>,
        /// The algorithm named.
        alg: String,
    },
    /// The signature is not the issuer's.
    #[error("the token's signature does not verify")]
    Signature,
    /// None of `aud` is ours.
    #[error("the token is for {0:?}, not for us")]
    Audience(Vec<String>),
    /// `exp` is past.
    #[error("the token ran out at {0}")]
    Expired(OffsetDateTime),
    /// `nbf` is to come.
    #[error("the token is not valid before {0}")]
    NotYet(OffsetDateTime),
    /// `sub` is no service account.
    #[error("the token's subject {0:?} is not a service account")]
    Subject(String),
    /// Namespace or service account are not as Kubernetes writes them.
    #[error("the token's subject is not a service account: {0}")]
    Identity(#[from] IdentityError),
    /// The `kubernetes.io` claims speak of another service account than `sub`.
    #[error("the token's kubernetes.io claims contradict its subject")]
    Contradiction,
}

/// An issuer of tokens that we trust.
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    /// `iss`, compared byte for byte.
    pub issuer: String,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// The issuer's public keys.
    pub keys: KeySet,
}

/// Judges tokens of one or more issuers; each speaks for all service accounts of the trust domain.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    trust_domain: TrustDomain,
    issuers: BTreeMap<String, TrustedIssuer>,
}

impl TokenVerifier {
    /// A verifier for identities of `trust_domain`. Of two issuers with one name, the later counts.
    pub fn new(trust_domain: TrustDomain, issuers: impl IntoIterator<Item = TrustedIssuer>) -> Self {
        let issuers = issuers.into_iter().map(|issuer| (issuer.issuer.clone(), issuer)).collect();
        Self { trust_domain, issuers }
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// See [`TokenError`]. Nothing of the claims is believed before the signature.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Caller, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge(token.len()));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("no signature"))?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed("two parts only"))?;
        let header: Header = part(header, "header")?;
        let claims: Claims = part(payload, "claims")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed("signature"))?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed("critical header parameters that we do not know"));
        }

        let issuer = self.issuers.get(&claims.iss).ok_or_else(|| TokenError::Issuer(claims.iss.clone()))?;
        issuer.keys.verify(header.kid.as_deref(), &header.alg, message.as_bytes(), &signature)?;
        let expires = claims.check(&issuer.audiences, now)?;
        let identity = claims.identity(&self.trust_domain)?;
        let bound = claims.kubernetes.unwrap_or_default();
        let proof = Proof::Token { issuer: claims.iss, expires, pod: bound.pod, node: bound.node };
        Ok(Caller::new(identity, proof))
    }
}

fn part<T: DeserializeOwned>(text: &str, name: &'static str) -> Result<T, TokenError> {
    let malformed = TokenError::Malformed(name);
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed.clone())?;
    serde_json::from_slice(&json).map_err(|_| malformed)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: serde_json::Number,
    nbf: Option<serde_json::Number>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesClaims>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What Kubernetes says about a projected token.
#[derive(Default, Deserialize)]
struct KubernetesClaims {
    namespace: Option<String>,
    serviceaccount: Option<BoundObject>,
    pod: Option<BoundObject>,
    node: Option<BoundObject>,
}

impl Claims {
    /// When the token runs out, if it is for one of `audiences` and valid now.
    fn check(&self, audiences: &[String], now: OffsetDateTime) -> Result<OffsetDateTime, TokenError> {
        let named = match &self.aud {
            Audience::One(audience) => std::slice::from_ref(audience),
            Audience::Many(audiences) => audiences,
        };
        if !named.iter().any(|name| audiences.contains(name)) {
            return Err(TokenError::Audience(named.to_vec()));
        }
        let expires = numeric_date(&self.exp)?;
        if expires <= now {
            return Err(TokenError::Expired(expires));
        }
        match self.nbf.as_ref().map(numeric_date).transpose()? {
            Some(begin) if begin - NOT_BEFORE_LEEWAY > now => Err(TokenError::NotYet(begin)),
            _ => Ok(expires),
        }
    }

    fn identity(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, TokenError> {
        let parts: Vec<&str> = self.sub.split(':').collect();
        let ["system", "serviceaccount", namespace, account] = parts[..] else {
            return Err(TokenError::Subject(self.sub.clone()));
        };
        if let Some(bound) = &self.kubernetes {
            let other_namespace = bound.namespace.as_deref().is_some_and(|bound| bound != namespace);
            let other_account = bound.serviceaccount.as_ref().is_some_and(|bound| bound.name != account);
            if other_namespace || other_account {
                return Err(TokenError::Contradiction);
            }
        }
        Ok(SpiffeId::workload(trust_domain, namespace, account)?)
    }
}

/// A NumericDate (RFC 7519 §2) in whole seconds, rounded down; within ±9999 years.
fn numeric_date(number: &serde_json::Number) -> Result<OffsetDateTime, TokenError> {
    #[allow(clippy::cast_possible_truncation)] // `as` saturates, and what is out of range fails below
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
    let date = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    // The far ends are left out so that a leeway cannot overflow.
    date.filter(|date| (-9000..9000).contains(&date.year()))
        .ok_or(TokenError::Malformed("a date out of range"))
}

#[cfg(test)]
mod tests;
