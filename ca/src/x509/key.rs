//! Private keys: generated or parsed here, erased when dropped, never printed.

use std::{fmt, str::FromStr};

use der::{
    Decode as _, Encode as _, Sequence, Tag,
    asn1::{BitStringRef, ObjectIdentifier, OctetStringRef},
    oid::db::rfc5912::ID_EC_PUBLIC_KEY,
};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use spki::AlgorithmIdentifierRef;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::x509::{
    pem,
    public_key::{KeyError, PublicKey, RSA},
};

/// The kinds of key that are made here for a CA. RSA keys are only imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewKey {
    /// ECDSA on P-256: the fastest that every proxy verifies.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
}

/// Not a kind of key that is made here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no kind of key for a root: write p256 or p384; an RSA key can be imported by `ca init --import-key`"
)]
pub struct NewKeyError(String);

impl FromStr for NewKey {
    type Err = NewKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "p256" | "p-256" => Ok(Self::P256),
            "p384" | "p-384" => Ok(Self::P384),
            _ => Err(NewKeyError(text.to_owned())),
        }
    }
}

/// Why a private key cannot be used. Never says anything about the key's content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// Not PEM.
    #[error("not a private key in PEM: {0}")]
    Pem(#[from] pem::PemError),
    /// No block with the label of a private key; these are the labels there are.
    #[error(
        "not a private key in PEM: there is no block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY{}",
        pem::found(.0)
    )]
    NoKey(Vec<String>),
    /// More than one key.
    #[error("there are {0} private keys in it, and nobody says which one counts; leave one")]
    Several(usize),
    /// Nobody is there to type a password.
    #[error(
        "the private key is encrypted, and nobody is there to give its password: decrypt it with `openssl pkey -in FILE \
         -out DECRYPTED-FILE`, and let nobody else read that file"
    )]
    Encrypted,
    /// Damaged, or of a kind that we cannot sign with.
    #[error(
        "the private key cannot be read: it is damaged, lacks its public half, or is neither ECDSA P-256, P-384, \
         Ed25519 nor RSA of 2048 to 4096 bits"
    )]
    Unreadable,
    /// Its public half is of a kind that we do not allow.
    #[error(transparent)]
    Public(#[from] KeyError),
    /// The system had no random numbers.
    #[error("no key could be made: the system gave no random numbers")]
    Random,
}

/// A private key. Its PKCS#8 form is wiped when it is dropped, and `Debug` shows nothing of it.
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub fn generate() -> Result<Self, PrivateKeyError> {
        Self::generate_as(NewKey::P256)
    }

    /// A new key of this kind.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub fn generate_as(kind: NewKey) -> Result<Self, PrivateKeyError> {
        let algorithm = match kind {
            NewKey::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            NewKey::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        KeyPair::generate_for(algorithm).map(Self).map_err(|_| PrivateKeyError::Random)
    }

    /// The key in a file of PEM: PKCS#8, or as older tools write it, PKCS#1 for RSA and RFC 5915 for elliptic curves. Other
    /// blocks and text between them are passed over: certificates, parameters of a curve, attributes of PKCS#12.
    ///
    /// # Errors
    /// No key, more than one, an encrypted one, or a kind of key that is not supported.
    pub fn from_pem(file: &(impl AsRef<[u8]> + ?Sized)) -> Result<Self, PrivateKeyError> {
        let (keys, others): (Vec<_>, Vec<_>) =
            pem::blocks(file.as_ref())?.into_iter().partition(|block| block.label.ends_with("PRIVATE KEY"));
        let key = match &keys[..] {
            [] => return Err(PrivateKeyError::NoKey(others.into_iter().map(|block| block.label).collect())),
            [key] => key,
            keys => return Err(PrivateKeyError::Several(keys.len())),
        };
        let der = match key.label.as_str() {
            _ if key.encrypted => return Err(PrivateKeyError::Encrypted),
            "ENCRYPTED PRIVATE KEY" => return Err(PrivateKeyError::Encrypted),
            pem::PRIVATE_KEY => Ok(key.content.clone()),
            pem::RSA_PRIVATE_KEY => pkcs8(RSA, &key.content),
            pem::EC_PRIVATE_KEY => curve(&key.content).and_then(|curve| {
                let parameters = Some((&curve).into());
                pkcs8(AlgorithmIdentifierRef { oid: ID_EC_PUBLIC_KEY, parameters }, &key.content)
            }),
            other => return Err(PrivateKeyError::NoKey(vec![other.to_owned()])),
        };
        let der = der.map_err(|_| PrivateKeyError::Unreadable)?;
        KeyPair::try_from(der.as_slice()).map(Self).map_err(|_| PrivateKeyError::Unreadable)
    }

    /// The key as one PKCS#8 PEM block, for a file or a Secret that only its owner may read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode(pem::PRIVATE_KEY, self.pkcs8()))
    }

    /// The key in PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        self.0.serialized_der()
    }

    /// The public half.
    ///
    /// # Errors
    /// A kind or size of key that we do not allow.
    pub fn public(&self) -> Result<PublicKey, PrivateKeyError> {
        Ok(PublicKey::from_spki(&self.0.subject_public_key_info())?)
    }
}

/// A PrivateKeyInfo (RFC 5208 §5).
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
    key: &'a OctetStringRef,
}

/// An ECPrivateKey (RFC 5915 §3).
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    curve: Option<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public: Option<BitStringRef<'a>>,
}

/// A key of an older form inside PKCS#8.
fn pkcs8(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> der::Result<Zeroizing<Vec<u8>>> {
    let key = OctetStringRef::new(key)?;
    PrivateKeyInfo { version: 0, algorithm, key }.to_der().map(Zeroizing::new)
}

/// The curve that an RFC 5915 key names.
fn curve(key: &[u8]) -> der::Result<ObjectIdentifier> {
    EcPrivateKey::from_der(key)?.curve.ok_or_else(|| Tag::ObjectIdentifier.value_error().into())
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_silence() {
        let key = PrivateKey::generate().unwrap();
        let text = key.to_pem();
        let again = PrivateKey::from_pem(&text).unwrap();
        assert_eq!(again.public().unwrap(), key.public().unwrap());
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");
        let half = &text[..text.len() / 2];
        assert!(matches!(PrivateKey::from_pem(half), Err(PrivateKeyError::Pem(_))));
        let damaged = pem::encode(pem::PRIVATE_KEY, &key.pkcs8()[..60]);
        assert_eq!(PrivateKey::from_pem(&damaged).err(), Some(PrivateKeyError::Unreadable));
    }

    #[test]
    fn a_new_key_is_of_the_kind_asked_for() {
        for (text, name) in [("p256", "ECDSA P-256"), ("P-384", "ECDSA P-384")] {
            let key = PrivateKey::generate_as(text.parse().unwrap()).unwrap();
            assert_eq!(key.public().unwrap().kind().to_string(), name);
        }
        let refused = NewKey::from_str("rsa").unwrap_err().to_string();
        assert!(refused.contains("p384") && refused.contains("--import-key"), "{refused}");
    }
}
