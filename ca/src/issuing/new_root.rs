//! New roots, which certify themselves.

use std::time::Duration;

use eastwest_identity::TrustDomain;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::{
    issuing::{
        issuer::{IssueError, random_serial},
        profile,
    },
    x509::{
        self,
        key::{NewKey, PrivateKey},
        public_key::{KeyKind, PublicKey},
    },
};

/// The properties of a new root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoot {
    /// The trust domain it names.
    pub trust_domain: TrustDomain,
    /// The kind of its key.
    pub key: NewKey,
    /// How long it lives.
    pub life: Duration,
    /// Number of the root in its CA, from 1. Roots after the first have it in their names.
    pub generation: u32,
}

impl NewRoot {
    /// The usual one: ECDSA P-256, ten years, the first.
    pub fn of(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, key: NewKey::default(), life: profile::ROOT_LIFE, generation: 1 }
    }

    /// One like `root`: of the same trust domain if it names one, with a key of the same kind where such are made, and
    /// as long a life. `None` if the root cannot be read.
    pub fn like(root: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509::parse(root)?;
        let named = parsed.subject().iter_organization().next().and_then(|name| name.as_str().ok());
        let domain = named.and_then(|name| TrustDomain::parse(name).ok());
        let usual = Self::of(domain.or_else(|| TrustDomain::parse("cluster.local").ok())?);
        let kind = PublicKey::from_spki(parsed.public_key().raw).map(|key| key.kind());
        let key = if kind == Ok(KeyKind::P384) { NewKey::P384 } else { NewKey::P256 };
        let window = x509::window(&parsed);
        let life = Duration::try_from(window.not_after - window.not_before).unwrap_or(usual.life);
        Some(Self { key, life, ..usual })
    }

    /// Certifies `key` by itself, backdated.
    ///
    /// # Errors
    /// No random numbers, or signing failed.
    pub fn sign(&self, key: &PrivateKey, now: OffsetDateTime) -> Result<CertificateDer<'static>, IssueError> {
        let serial = random_serial()?;
        let params = profile::root(&self.trust_domain, self.generation, serial, self.life, now);
        Ok(params.self_signed(key)?.into())
    }
}

/// Makes a self-signed root of the usual kind for `trust_domain`.
///
/// # Errors
/// No random numbers, or signing failed.
pub fn self_signed_root(
    trust_domain: &TrustDomain,
    key: &PrivateKey,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, IssueError> {
    NewRoot::of(trust_domain.clone()).sign(key, now)
}
