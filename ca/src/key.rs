//! Private keys: made or read here, wiped when dropped, never shown.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    pem,
    public_key::{KeyError, PublicKey},
};

/// Why a private key cannot be used. Never says anything about the key's content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// Not one PEM block with the label of a PKCS#8 key.
    #[error("not a PKCS#8 private key in PEM: {0}")]
    Pem(#[from] pem::PemError),
    /// Not PKCS#8, or of a kind that we cannot sign with.
    #[error("the private key cannot be read: it is damaged, or neither ECDSA P-256, P-384, Ed25519 nor RSA")]
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
        KeyPair::generate().map(Self).map_err(|_| PrivateKeyError::Random)
    }

    /// A key from one PKCS#8 PEM block.
    ///
    /// # Errors
    /// Not such a block, or a kind of key that is not supported.
    pub fn from_pem(text: &str) -> Result<Self, PrivateKeyError> {
        let der = Zeroizing::new(pem::decode_one(text, &[pem::PRIVATE_KEY])?);
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
}
