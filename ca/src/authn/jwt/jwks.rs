//! JSON Web Key Sets (RFC 7517): public keys, each good for one algorithm.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use thiserror::Error;

use super::{
    TokenError,
    seen::{Fingerprint, Seen},
};

/// Most keys in a set.
const MAX_KEYS: usize = 64;
/// Smallest RSA modulus in bytes.
const MIN_RSA_BYTES: usize = 256;

/// Why a text is no key set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not JSON with an array `keys`.
    #[error("JWKS: {0}")]
    Json(String),
    /// More than 64 keys.
    #[error("JWKS: {0} keys are more than {MAX_KEYS}")]
    TooMany(usize),
    /// A key of a kind that we know with a member that we cannot use.
    #[error("JWKS: keys[{index}].{member} is missing or cannot be used")]
    Key {
        /// Which key.
        index: usize,
        /// Which of its members.
        member: &'static str,
    },
    /// None of the keys can verify a token.
    #[error("JWKS: no key for RS256, ES256 or EdDSA")]
    Empty,
}

/// The signature algorithms that we accept (RFC 7518 §3.1, RFC 8037 §3.1). A key fixes its algorithm, whatever a
/// token's header says (CA.md A17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Public keys of one issuer.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    public: Public,
    seen: Seen,
}

#[derive(Debug, Clone)]
enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set; keys of other kinds, uses and algorithms are passed over (RFC 7517 §5).
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn from_json(text: &str) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| KeySetError::Json(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(document.keys.len()));
        }
        let mut keys = Vec::new();
        for (index, member) in document.keys.into_iter().enumerate() {
            let public = member.public().map_err(|member| KeySetError::Key { index, member })?;
            keys.extend(public.map(|public| Key { kid: member.kid, public, seen: Seen::default() }));
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self { keys }) }
    }

    /// How many keys can verify a token.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Verifies `signature` over `message` with the key that `kid` names, or with any key if it names none.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        alg: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let mut fitting =
            self.keys.iter().filter(named).filter(|k| k.public.algorithm().name() == alg).peekable();
        if fitting.peek().is_none() {
            return Err(TokenError::Key { kid: kid.map(str::to_owned), alg: alg.to_owned() });
        }
        let fingerprint = Fingerprint::of(message, signature);
        if fitting.any(|key| key.seen.or(fingerprint, || key.public.verifies(message, signature))) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }
}

impl Public {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        }
        .is_ok()
    }
}

impl Member {
    /// The key, `None` if it is not for us, or the name of the member at fault.
    fn public(&self) -> Result<Option<Public>, &'static str> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Ok(None);
        }
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let n = bytes(self.n.as_ref()).filter(|n| n.len() >= MIN_RSA_BYTES).ok_or("n")?;
                let e = bytes(self.e.as_ref()).filter(|e| matches!(e[..], [_, _, _, ..])).ok_or("e")?;
                Public::Rsa(RsaPublicKeyComponents { n, e })
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (coordinate(self.x.as_ref(), "x")?, coordinate(self.y.as_ref(), "y")?);
                Public::P256([&[4], &x[..], &y[..]].concat())
            }
            ("OKP", Some("Ed25519")) => Public::Ed25519(coordinate(self.x.as_ref(), "x")?),
            _ => return Ok(None),
        };
        let fits = self.alg.as_deref().is_none_or(|alg| alg == public.algorithm().name());
        Ok(fits.then_some(public))
    }
}

/// A Base64urlUInt without leading zeros.
fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
    Some(bytes.into_iter().skip_while(|&byte| byte == 0).collect())
}

/// 32 bytes of a coordinate or key.
fn coordinate(text: Option<&String>, member: &'static str) -> Result<Vec<u8>, &'static str> {
    let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.filter(|bytes| bytes.len() == 32).ok_or(member)
}
