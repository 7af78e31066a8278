//! The chain from the signing certificate to its root, verified before anything is signed.

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::{
    trust::bundle::TrustBundle,
    x509::{self, Window},
};

/// Why certificates are no signing chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate at all.
    #[error("there is no signing certificate")]
    NoCertificate,
    /// A certificate of the chain that cannot be read.
    #[error("certificate {0} of the chain cannot be read")]
    Unreadable(usize),
    /// A certificate of the chain that may not sign.
    #[error("certificate {0} of the chain is not a CA: {1}")]
    NotACa(usize, &'static str),
    /// A certificate that is not signed by the next one, or the last one not by a root.
    #[error("certificate {0} of the chain is signed neither by the next one nor by a root")]
    Broken(usize),
    /// A CA below one that allows fewer of them.
    #[error("certificate {at} of the chain allows {limit} CAs between itself and a leaf, and there are {at}")]
    PathLength {
        /// Which certificate.
        at: usize,
        /// Its path length constraint.
        limit: u32,
    },
}

/// A chain that leads to a root.
pub(crate) struct SigningChain {
    /// What goes over the wire: the chain without its root.
    pub(crate) intermediates: Vec<CertificateDer<'static>>,
    /// The root it leads to.
    pub(crate) root: CertificateDer<'static>,
    /// When that root runs out.
    pub(crate) root_not_after: OffsetDateTime,
    /// When all of it, root included, is valid.
    pub(crate) window: Window,
}

impl SigningChain {
    /// Follows `chain`, the signing certificate first, to one of `roots`; what stands behind the root is left out.
    pub(crate) fn follow(
        chain: Vec<CertificateDer<'static>>,
        roots: &TrustBundle,
    ) -> Result<Self, ChainError> {
        let mut common: Option<Window> = None;
        for (at, der) in chain.iter().enumerate() {
            let certificate = x509::parse(der).ok_or(ChainError::Unreadable(at))?;
            check_ca(&certificate, at)?;
            let window = x509::window(&certificate);
            let window = common.map_or(window, |common| common.and(window));
            common = Some(window);
            if roots.contains(der) {
                let root_not_after = x509::window(&certificate).not_after;
                return Ok(Self {
                    intermediates: chain[..at].to_vec(),
                    root: der.clone(),
                    root_not_after,
                    window,
                });
            }
            if chain.get(at + 1).is_some_and(|above| is_signed_by(&certificate, above)) {
                continue;
            }
            let root = root_above(&certificate, roots).ok_or(ChainError::Broken(at))?;
            let above = x509::parse(root).ok_or(ChainError::Broken(at))?;
            check_ca(&above, at + 1)?;
            let (root, of_root) = (root.clone(), x509::window(&above));
            return Ok(Self {
                intermediates: chain[..=at].to_vec(),
                root,
                root_not_after: of_root.not_after,
                window: window.and(of_root),
            });
        }
        Err(ChainError::NoCertificate)
    }
}

/// That the certificate may sign with `below` others between it and a leaf (RFC 5280 §4.2.1.9).
fn check_ca(certificate: &X509Certificate<'_>, below: usize) -> Result<(), ChainError> {
    if let Some(problem) = x509::not_a_ca(certificate) {
        return Err(ChainError::NotACa(below, problem));
    }
    let limit = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.path_len_constraint,
        _ => None,
    };
    match limit {
        Some(limit) if below > usize::try_from(limit).unwrap_or(usize::MAX) => {
            Err(ChainError::PathLength { at: below, limit })
        }
        _ => Ok(()),
    }
}

/// The root that signed the certificate; of several, as when a root was renewed with its old key, the one that lives
/// longest.
fn root_above<'a>(
    certificate: &X509Certificate<'_>,
    roots: &'a TrustBundle,
) -> Option<&'a CertificateDer<'static>> {
    let signers = roots.certificates().filter(|root| is_signed_by(certificate, root));
    signers.max_by_key(|root| x509::parse(root).map(|root| x509::window(&root).not_after))
}

fn is_signed_by(certificate: &X509Certificate<'_>, signer: &CertificateDer<'_>) -> bool {
    x509::parse(signer).is_some_and(|signer| {
        certificate.issuer().as_raw() == signer.subject().as_raw()
            && certificate.verify_signature(Some(signer.public_key())).is_ok()
    })
}
