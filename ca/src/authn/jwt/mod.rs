//! Service account tokens (JWT, RFC 7519), verified here with the issuer's public keys (CA.md C14).

mod json;
mod jwks;
mod mint;
mod seen;
mod svid;

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::authn::caller::{BoundObject, Caller, Proof};

pub use jwks::{Algorithm, KeySet, KeySetError};
pub use mint::{TokenKey, TokenKeyError, TokenRequest};
pub use svid::{SignedSvid, SvidError, SvidKey, verify_svid};

/// Largest token in bytes; Kubernetes' are about 1 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the issuer's clock may be ahead of ours. `exp` gets no such grace: tokens live for minutes at least.
const NOT_BEFORE_LEEWAY: Duration = Duration::seconds(10);

/// Why a token is not accepted. For our log; the peer gets no reason.
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
    /// No audience (`aud`) is ours.
    #[error("the token is for {0:?}, not for us")]
    Audience(Vec<String>),
    /// `exp` is past.
    #[error("the token ran out at {0}")]
    Expired(OffsetDateTime),
    /// `nbf` is in the future.
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

/// Verifies tokens of one or more issuers. Each may issue tokens for all service accounts of the trust domain.
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

    /// The caller with this token.
    ///
    /// # Errors
    /// See [`TokenError`]. Nothing of the claims is believed before the signature.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Caller, TokenError> {
        let token = Jwt::parse(token)?;
        let named = || TokenError::Issuer(token.issuer().to_owned());
        let issuer = self.issuers.get(token.issuer()).ok_or_else(named)?;
        token.verify(&issuer.keys, now)?.service_account(&issuer.audiences, &self.trust_domain)
    }
}

/// A token that was parsed and is not verified yet.
pub struct Jwt<'a> {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    issuer: String,
    claims: Arc<Map<String, Value>>,
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Parses the compact form. Header members such as `jwk`, `jku` and `x5u` are ignored.
    ///
    /// # Errors
    /// Anything but three base64url parts with a JSON object in the first two, in which no name stands twice.
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        let token = Self::of_anybody(token)?;
        if token.claims.contains_key("iss") { Ok(token) } else { Err(TokenError::Malformed("no iss")) }
    }

    /// The same for a token that need not name its issuer.
    fn of_anybody(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge(token.len()));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("no signature"))?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed("two parts only"))?;
        let (header, claims) = (part(header, "header")?, part(payload, "claims")?);
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed("signature"))?;
        if header.contains_key("crit") {
            return Err(TokenError::Malformed("critical header parameters that we do not know"));
        }
        let alg = text(&header, "alg")?.ok_or(TokenError::Malformed("no alg"))?.to_owned();
        let kid = text(&header, "kid")?.map(str::to_owned);
        let typ = text(&header, "typ")?.map(str::to_owned);
        let issuer = text(&claims, "iss")?.unwrap_or_default().to_owned();
        Ok(Self { alg, kid, typ, issuer, claims: Arc::new(claims), message, signature })
    }

    /// The issuer that it names.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Verifies signature and dates at `now`. The audience is not checked here.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, keys: &KeySet, now: OffsetDateTime) -> Result<Verified, TokenError> {
        keys.verify(self.kid.as_deref(), &self.alg, self.message.as_bytes(), &self.signature)?;
        let expires = date(&self.claims, "exp")?.ok_or(TokenError::Malformed("no exp"))?;
        if expires <= now {
            return Err(TokenError::Expired(expires));
        }
        match date(&self.claims, "nbf")? {
            Some(begin) if begin - NOT_BEFORE_LEEWAY > now => Err(TokenError::NotYet(begin)),
            _ => Ok(Verified { issuer: self.issuer.clone(), expires, claims: Arc::clone(&self.claims) }),
        }
    }

    /// Its `exp`, for tokens that are verified elsewhere.
    pub fn expires(&self) -> Option<OffsetDateTime> {
        date(&self.claims, "exp").ok().flatten()
    }
}

impl fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwt({:?})", self.issuer)
    }
}

/// The claims of a token whose signature and dates were verified.
#[derive(Debug, Clone)]
pub struct Verified {
    issuer: String,
    expires: OffsetDateTime,
    claims: Arc<Map<String, Value>>,
}

impl Verified {
    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the token expires.
    pub fn expires(&self) -> OffsetDateTime {
        self.expires
    }

    /// A claim.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// A claim that is text and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claim(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The token must be for one of `ours`.
    ///
    /// # Errors
    /// `aud` is missing, malformed or names others.
    pub fn is_for(&self, ours: &[String]) -> Result<(), TokenError> {
        let malformed = TokenError::Malformed("aud");
        let named = match self.claim("aud") {
            Some(Value::String(audience)) => vec![audience.as_str()],
            Some(Value::Array(list)) => {
                list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(malformed)?
            }
            _ => return Err(malformed),
        };
        if named.iter().any(|name| ours.iter().any(|one| one == name)) {
            return Ok(());
        }
        Err(TokenError::Audience(named.into_iter().map(str::to_owned).collect()))
    }

    /// The service account that Kubernetes made the token for.
    ///
    /// # Errors
    /// The token is for others than `audiences`, or its subject is no service account.
    pub fn service_account(
        &self,
        audiences: &[String],
        trust_domain: &TrustDomain,
    ) -> Result<Caller, TokenError> {
        self.is_for(audiences)?;
        let subject = text(&self.claims, "sub")?.ok_or(TokenError::Malformed("no sub"))?;
        let (namespace, account) =
            service_account(subject).ok_or_else(|| TokenError::Subject(subject.to_owned()))?;
        let identity = SpiffeId::workload(trust_domain, namespace, account)?;
        let bound = match self.claim("kubernetes.io") {
            None | Some(Value::Null) => KubernetesClaims::default(),
            Some(claims) => KubernetesClaims::deserialize(claims)
                .map_err(|_| TokenError::Malformed("the kubernetes.io claims"))?,
        };
        let other_namespace = bound.namespace.as_deref().is_some_and(|bound| bound != namespace);
        let other_account = bound.serviceaccount.as_ref().is_some_and(|bound| bound.name != account);
        if other_namespace || other_account {
            return Err(TokenError::Contradiction);
        }
        let (issuer, expires) = (self.issuer.clone(), self.expires);
        let KubernetesClaims { serviceaccount, pod, node, .. } = bound;
        let account = serviceaccount.filter(|account| !account.uid.is_empty());
        Ok(Caller::new(identity, Proof::Token { issuer, expires, account, pod, node }))
    }
}

/// Namespace and name in a user name of Kubernetes, `system:serviceaccount:NS:SA`: these four parts, no more.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = user.split(':').collect();
    match parts[..] {
        ["system", "serviceaccount", namespace, account] => Some((namespace, account)),
        _ => None,
    }
}

/// What Kubernetes says about a projected token.
#[derive(Default, Deserialize)]
struct KubernetesClaims {
    namespace: Option<String>,
    serviceaccount: Option<BoundObject>,
    pod: Option<BoundObject>,
    node: Option<BoundObject>,
}

fn part(text: &str, name: &'static str) -> Result<Map<String, Value>, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed(name))?;
    json::object(&json).map_err(|_| TokenError::Malformed(name))
}

/// A member that is text, if it is there.
fn text<'a>(object: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, TokenError> {
    let Some(value) = object.get(name) else { return Ok(None) };
    value.as_str().map(Some).ok_or(TokenError::Malformed(name))
}

/// A member that is a date, if it is there; `null` counts as absent.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<OffsetDateTime>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => numeric_date(number).map(Some),
        Some(_) => Err(TokenError::Malformed(name)),
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
