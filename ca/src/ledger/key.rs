//! The key that signs checkpoints. It is not the key of the CA: it stays when the CA rotates, and signs nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::SigningKey as _;
use thiserror::Error;
use time::OffsetDateTime;

use super::{hash::Hash, record::Event};
use crate::{
    issuing::issuer::{IssueError, Issuer as _, LocalIssuer},
    x509::{
        key::{PrivateKey, PrivateKeyError},
        public_key::{ECDSA_SHA256, KeyKind, PublicKey},
    },
};

/// Begins what is signed, so that a signature of a checkpoint can be taken for nothing else.
const CONTEXT: &[u8] = b"eastwest ledger checkpoint 1\0";

/// Why a key cannot sign checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LedgerKeyError {
    /// Of no use at all.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// Another kind.
    #[error("the ledger key is {0}; it must be ECDSA P-256")]
    Kind(KeyKind),
    /// The CA could not certify it.
    #[error("the ledger key cannot be certified: {0}")]
    Certify(#[from] IssueError),
    /// Signing failed.
    #[error("a checkpoint of the ledger cannot be signed: {0}")]
    Sign(String),
}

/// A key that signs checkpoints.
#[derive(Debug)]
pub struct LedgerKey {
    key: PrivateKey,
    public: PublicKey,
    id: String,
}

impl LedgerKey {
    /// Takes an ECDSA P-256 key.
    ///
    /// # Errors
    /// Another kind of key.
    pub fn new(key: PrivateKey) -> Result<Self, LedgerKeyError> {
        let public = key.public()?;
        match public.kind() {
            KeyKind::P256 => Ok(Self { id: public.fingerprint(), key, public }),
            kind => Err(LedgerKeyError::Kind(kind)),
        }
    }

    /// SHA-256 of the public half's SubjectPublicKeyInfo.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The record with a certificate of the key by `issuer`, valid as long as the chain of `issuer`.
    ///
    /// # Errors
    /// The chain is not valid at `now`, or signing failed.
    pub fn certify(&self, issuer: &LocalIssuer, now: OffsetDateTime) -> Result<Event, LedgerKeyError> {
        let leaf = issuer.issue_ledger(&self.public, now)?;
        let chain = std::iter::once(&leaf.der).chain(issuer.intermediates());
        Ok(Event::Signer {
            key: self.id.clone(),
            ca: issuer.key_sha256(),
            chain: chain.map(|der| STANDARD.encode(der)).collect(),
        })
    }

    /// The record with a signature over all records up to `hash`.
    ///
    /// # Errors
    /// Signing failed.
    pub fn checkpoint(&self, hash: Hash) -> Result<Event, LedgerKeyError> {
        let signed =
            self.key.sign(&message(hash)).map_err(|error| LedgerKeyError::Sign(error.to_string()))?;
        Ok(Event::Checkpoint { key: self.id.clone(), signature: STANDARD.encode(signed) })
    }
}

/// Whether `signature`, as base64, is that of `key` over `hash`.
pub(super) fn vouches(key: &PublicKey, hash: Hash, signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    key.verifies(&ECDSA_SHA256, &message(hash), &signature) == Some(true)
}

fn message(hash: Hash) -> Vec<u8> {
    [CONTEXT, hash.bytes()].concat()
}
