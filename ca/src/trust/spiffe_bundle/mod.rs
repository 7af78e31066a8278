//! SPIFFE bundles: the keys of one trust domain as a JWK Set (SPIFFE Trust Domain and Bundle §4; CA.md
//! S37 to S45).
//!
//! A bundle does not name its trust domain, so its holder stores the name with it. Nothing here puts two
//! bundles together: the keys of one domain must never verify identities of another.

mod document;
mod jwk;

use std::time::Duration;

use ring::digest;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::document::{SpiffeBundleError, map_from_json, map_to_json};
use crate::{
    trust::bundle::TrustBundle,
    x509::{pem, public_key::hex},
};

/// The keys of one trust domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpiffeBundle {
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
    certificates: Vec<CertificateDer<'static>>,
    jwt_keys: Vec<JwtKey>,
}

/// A public key that verifies JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtKey {
    kid: String,
    /// The public members of the JWK, with `use` and `kid`.
    members: serde_json::Map<String, serde_json::Value>,
}

impl JwtKey {
    /// The key named `kid` whose JWK has these members; those that are not public are left away.
    pub fn new(kid: &str, members: serde_json::Map<String, serde_json::Value>) -> Self {
        jwk::jwt_key(&members.into(), kid)
    }

    /// It alone, as a JWK Set for verifiers of any signature, without its `use`.
    pub(crate) fn key_set(&self) -> String {
        let mut members = self.members.clone();
        members.remove("use");
        serde_json::json!({ "keys": [members] }).to_string()
    }

    /// Its name in the header of tokens.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl SpiffeBundle {
    /// The roots of a domain, not yet numbered.
    pub fn of_roots(roots: &TrustBundle) -> Self {
        Self { certificates: roots.certificates().cloned().collect(), ..Self::default() }
    }

    /// The same with these keys for JWT-SVIDs.
    #[must_use]
    pub fn with_jwt_keys(self, keys: Vec<JwtKey>) -> Self {
        Self { jwt_keys: keys, ..self }
    }

    /// Reads a bundle document. Entries of unknown `kty` or `use`, and entries that lack what their use demands, are
    /// passed over; of several certificates in one entry the first counts. No keys at all is a bundle too: its
    /// domain is no longer trusted.
    ///
    /// # Errors
    /// See [`SpiffeBundleError`].
    pub fn from_json(text: &str) -> Result<Self, SpiffeBundleError> {
        document::read(text)
    }

    /// The same with this number.
    #[must_use]
    pub fn numbered(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    /// The same with the advice to look again after so many whole seconds.
    #[must_use]
    pub fn refreshed_every(self, hint: Duration) -> Self {
        Self { refresh_hint: Some(Duration::from_secs(hint.as_secs())), ..self }
    }

    /// The number that rises with every change of the content; a publisher may leave it away.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// After how long the publisher wants to be asked again.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The roots, as they stand in the document.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The keys that verify JWT-SVIDs.
    pub fn jwt_keys(&self) -> &[JwtKey] {
        &self.jwt_keys
    }

    /// What certificates of the domain are verified with; `None` if the bundle trusts none.
    pub fn roots(&self) -> Option<TrustBundle> {
        TrustBundle::new(self.certificates.clone()).ok()
    }

    /// The roots as PEM, one block after the other.
    pub fn pem(&self) -> String {
        self.certificates.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect()
    }

    /// The bundle document.
    pub fn to_json(&self) -> String {
        document::write(self).to_string()
    }

    /// The keys for JWT-SVIDs alone, as a JWK Set.
    pub fn jwt_key_set(&self) -> String {
        document::write_jwt_keys(self).to_string()
    }

    /// SHA-256 of everything but the number, in hexadecimal: what "the content changed" means.
    fn fingerprint(&self) -> String {
        let unnumbered = Self { sequence: None, ..self.clone() };
        hex(digest::digest(&digest::SHA256, unnumbered.to_json().as_bytes()).as_ref())
    }
}

/// The sequence number of each content, stored by a publisher, so that the number rises with every change and never
/// returns, also after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// `spiffe_sequence`.
    pub sequence: u64,
    /// Fingerprint of the content.
    pub sha256: String,
}

impl Published {
    /// The number for `bundle`, published after `previous`. A new content gets the time in milliseconds, or the
    /// next number when that is greater: so it rises even if the record of the previous one is lost.
    pub fn next(previous: Option<&Self>, bundle: &SpiffeBundle, now: OffsetDateTime) -> Self {
        let sha256 = bundle.fingerprint();
        match previous {
            Some(same) if same.sha256 == sha256 => same.clone(),
            _ => {
                let after = previous.map_or(1, |previous| previous.sequence.saturating_add(1));
                let time = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
                Self { sequence: time.max(after), sha256 }
            }
        }
    }
}

#[cfg(test)]
mod tests;
