//! Our own service-account tokens, for where no Kubernetes makes them.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::json;
use thiserror::Error;
use time::OffsetDateTime;

use crate::x509::{
    key::{PrivateKey, PrivateKeyError},
    public_key::hex,
};

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// The key is not an ECDSA P-256 key.
    #[error("the token key is not an ECDSA P-256 key")]
    Kind,
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// No such namespace or service account is possible.
    #[error("--service-account: {0}")]
    ServiceAccount(#[from] IdentityError),
    /// A life beyond all dates.
    #[error("the token's lifetime is out of range")]
    Lifetime,
    /// The system had no random numbers.
    #[error("no token could be signed: the system gave no random numbers")]
    Random,
}

/// What a token shall say.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// How long from now.
    pub lifetime: Duration,
}

/// The key that signs our tokens (ES256).
pub struct TokenKey {
    pair: EcdsaKeyPair,
    kid: String,
}

impl TokenKey {
    /// A token key from an ECDSA P-256 key.
    ///
    /// # Errors
    /// Another kind of key.
    pub fn new(key: &PrivateKey) -> Result<Self, TokenKeyError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.pkcs8(), &SystemRandom::new())
                .map_err(|_| TokenKeyError::Kind)?;
        let (x, y) = coordinates(&pair);
        // RFC 7638: the members in this order, without white space.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        Ok(Self { pair, kid })
    }

    /// The name of the key in tokens and in the key set: its thumbprint (RFC 7638).
    pub fn id(&self) -> &str {
        &self.kid
    }

    /// The public half as a key set.
    pub fn jwks(&self) -> String {
        let (x, y) = coordinates(&self.pair);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid, "alg": "ES256", "use": "sig"}]})
            .to_string()
    }

    /// Signs a token for a service account.
    ///
    /// # Errors
    /// A name that is no service account, a lifetime out of range, or no random numbers.
    pub fn mint(&self, request: TokenRequest<'_>, now: OffsetDateTime) -> Result<String, TokenKeyError> {
        let TokenRequest { issuer, namespace, service_account, audience, lifetime } = request;
        let anywhere = TrustDomain::parse("cluster.local")?;
        SpiffeId::workload(&anywhere, namespace, service_account)?;
        let lifetime = i64::try_from(lifetime.as_secs()).map_err(|_| TokenKeyError::Lifetime)?;
        let now = now.unix_timestamp();
        let expires = now.checked_add(lifetime).ok_or(TokenKeyError::Lifetime)?;
        let claims = json!({
            "iss": issuer,
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": expires,
            "jti": random_id()?,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": service_account}},
        });
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), &claims)
    }

    /// Signs any header and claims.
    pub(crate) fn sign(
        &self,
        header: &serde_json::Value,
        claims: &serde_json::Value,
    ) -> Result<String, TokenKeyError> {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature =
            self.pair.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| TokenKeyError::Random)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.kid)
    }
}

fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32); // 4, then x and y of 32 bytes each
    (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
}

/// Sixteen random bytes in hexadecimal: a `jti` that no other token has.
pub(super) fn random_id() -> Result<String, TokenKeyError> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| TokenKeyError::Random)?;
    Ok(hex(&id))
}
