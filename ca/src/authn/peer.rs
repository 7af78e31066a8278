//! The identity in a client certificate (X509-SVID §5; CA.md S21, S22, S32 to S35 and A22).

use std::ops::RangeInclusive;

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::{
    authn::caller::{Caller, Proof},
    trust::bundle::TrustBundle,
    x509::{self, Window},
};

/// Most certificates that a peer may present.
const MAX_CHAIN: usize = 10;

/// Why a client certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// There is none.
    #[error("no client certificate")]
    None,
    /// More than ten certificates.
    #[error("the peer presented {0} certificates, more than {MAX_CHAIN}")]
    TooMany(usize),
    /// No valid path to a root: expired, unknown issuer, a CA, the wrong usage, ….
    #[error("the peer's certificate does not verify: {0}")]
    Path(webpki::Error),
    /// It cannot be read.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// It may sign certificates.
    #[error("the peer's certificate may sign others")]
    Signs,
    /// Not exactly one URI name.
    #[error("the peer's certificate has {0} URI names, not one")]
    Names(usize),
    /// The URI is no SPIFFE ID.
    #[error("the peer's certificate's URI name is no SPIFFE ID: {0}")]
    Identity(#[from] IdentityError),
    /// Another identity than the one expected.
    #[error("the peer's certificate is that of {0}")]
    Other(SpiffeId),
    /// Another trust domain.
    #[error("the peer's certificate is of the trust domain {0}")]
    TrustDomain(TrustDomain),
}

/// The caller that presents `chain` (leaf first, as in the handshake) at `now`. The handshake has verified that the
/// peer holds the key of the leaf.
///
/// # Errors
/// See [`PeerError`].
pub fn identify(
    chain: &[CertificateDer<'_>],
    roots: &TrustBundle,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Caller, PeerError> {
    verify(chain, roots, now)?;
    named(chain, trust_domain)
}

/// The caller that the leaf of `chain` names. The path to a root is not verified here; see [`verify`].
///
/// # Errors
/// See [`PeerError`].
pub fn named(chain: &[CertificateDer<'_>], trust_domain: &TrustDomain) -> Result<Caller, PeerError> {
    let leaf = x509::parse(chain.first().ok_or(PeerError::None)?).ok_or(PeerError::Unreadable)?;
    let identity = svid_identity(&leaf)?;
    if identity.trust_domain() != *trust_domain {
        return Err(PeerError::TrustDomain(identity.trust_domain()));
    }
    let proof =
        Proof::ClientCertificate { serial: x509::serial(&leaf), not_after: x509::window(&leaf).not_after };
    Ok(Caller::new(identity, proof))
}

/// A verified path from a client certificate to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidPath(Window);

impl ValidPath {
    /// The times for which that is known, if the roots and what is revoked stay as they were.
    pub fn window(&self) -> RangeInclusive<OffsetDateTime> {
        self.0.not_before..=self.0.not_after
    }

    /// Whether the path is still valid at `now`, for unchanged roots and revocations.
    pub fn holds(&self, now: OffsetDateTime) -> bool {
        self.0.contains(now)
    }
}

/// Verifies the path from a client's certificate (leaf first) to a root, and nothing else of the leaf.
///
/// # Errors
/// See [`PeerError`].
pub fn verify(
    chain: &[CertificateDer<'_>],
    roots: &TrustBundle,
    now: OffsetDateTime,
) -> Result<ValidPath, PeerError> {
    let (leaf, intermediates) = split(chain)?;
    roots.verify_client(leaf, intermediates, now).map_err(PeerError::Path)?;
    // Which of them the path goes by is not told, so the first of all to run out counts.
    let ends = chain.iter().filter_map(|der| x509::parse(der)).map(|one| x509::window(&one).not_after);
    let not_after = ends.chain(roots.ends(now)).min().unwrap_or(now);
    Ok(ValidPath(Window { not_before: now, not_after: not_after.max(now) }))
}

/// Verifies that a server shows, leaf first, an X.509-SVID of `expected` that leads to `roots`, the bundle of that
/// identity's own trust domain.
///
/// # Errors
/// See [`PeerError`].
pub fn verify_server(
    chain: &[CertificateDer<'_>],
    roots: &TrustBundle,
    expected: &SpiffeId,
    now: OffsetDateTime,
) -> Result<(), PeerError> {
    let (leaf, intermediates) = split(chain)?;
    roots.verify_server(leaf, intermediates, now).map_err(PeerError::Path)?;
    let identity = svid_identity(&x509::parse(leaf).ok_or(PeerError::Unreadable)?)?;
    if identity == *expected { Ok(()) } else { Err(PeerError::Other(identity)) }
}

/// Leaf and intermediates, of which there are not too many.
fn split<'a, 'der>(
    chain: &'a [CertificateDer<'der>],
) -> Result<(&'a CertificateDer<'der>, &'a [CertificateDer<'der>]), PeerError> {
    match chain.split_first() {
        Some(_) if chain.len() > MAX_CHAIN => Err(PeerError::TooMany(chain.len())),
        split => split.ok_or(PeerError::None),
    }
}

/// The SPIFFE ID of a leaf that is not a CA (X509-SVID §5).
fn svid_identity(leaf: &X509Certificate<'_>) -> Result<SpiffeId, PeerError> {
    let ca = !matches!(leaf.basic_constraints(), Ok(None)) && leaf.is_ca();
    let signs = match leaf.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign() || usage.value.crl_sign(),
        Ok(None) => false,
        Err(_) => return Err(PeerError::Unreadable),
    };
    if ca || signs {
        return Err(PeerError::Signs);
    }
    let names = x509::uri_names(leaf).ok_or(PeerError::Unreadable)?;
    let [uri] = names[..] else { return Err(PeerError::Names(names.len())) };
    let identity = SpiffeId::parse(uri)?;
    // A trust domain alone is no workload (X509-SVID §2). A token beside such a certificate is still tried.
    match identity.path() {
        "" => Err(PeerError::Identity(IdentityError::NotAWorkload)),
        _ => Ok(identity),
    }
}
