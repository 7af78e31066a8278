//! Paths below CAs that constrain URIs. webpki does not compare URIs with constraints and refuses every leaf with a URI below
//! such a CA, so workload certificates there are verified here: the leaf by webpki with its issuer for an anchor, the CAs
//! above as a signing chain is, and the names of all of them as RFC 5280 §4.2.1.10 says (CA.md C38).

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;

use crate::{
    trust::ca_chain::{CaChain, best_signer},
    x509::{self, name_constraints::NameConstraints},
};

/// The purposes that a path is verified for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// TLS clients.
    Client,
    /// TLS servers.
    Server,
}

impl Purpose {
    /// The same for webpki.
    pub(crate) fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }

    /// Whether the extended usages of a CA certificate, if it has any, include this one. webpki asks that too.
    fn fits(self, ca: &X509Certificate<'_>) -> bool {
        match ca.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => match self {
                Self::Client => usage.value.client_auth,
                Self::Server => usage.value.server_auth,
            },
            Err(_) => false,
        }
    }
}

/// Whether a CA certificate constrains URIs.
pub(crate) fn constrains_uris(ca: &CertificateDer<'_>) -> bool {
    let constraints = x509::parse(ca).map(|ca| NameConstraints::of(&ca));
    matches!(constraints, Some(Ok(constraints)) if constraints.has_uris())
}

/// The certificates from `leaf` to one of `roots`, if such a path is valid at `now` and all names on it are permitted.
/// `intermediates` may be in any order.
pub(crate) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[&CertificateDer<'_>],
    purpose: Purpose,
    now: OffsetDateTime,
) -> Option<Vec<CertificateDer<'static>>> {
    let issuer = best_signer(leaf, intermediates.iter(), now)
        .or_else(|| best_signer(leaf, roots.iter().copied(), now))?;
    let anchor = webpki::anchor_from_trusted_cert(issuer).ok()?;
    // Names are checked below, with the constraints of the whole chain.
    let anchor = TrustAnchor { name_constraints: None, ..anchor };
    let seconds = u64::try_from(now.unix_timestamp()).ok()?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    EndEntityCert::try_from(leaf)
        .ok()?
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], time, purpose.usage(), None, None)
        .ok()?;

    let chain = CaChain::follow(issuer, intermediates, roots, now).ok()?;
    let sound = |ca: &CertificateDer<'_>| {
        // webpki knows every extension that is critical here, and none is there twice.
        EndEntityCert::try_from(ca).is_ok() && x509::parse(ca).is_some_and(|ca| purpose.fits(&ca))
    };
    let names = x509::parse(leaf).map(|leaf| chain.constraints.check_all(&leaf));
    let valid = chain.intermediates.iter().all(sound) && names == Some(Ok(()));
    let path = std::iter::once(leaf.clone().into_owned()).chain(chain.intermediates).chain([chain.root]);
    valid.then(|| path.collect())
}

#[cfg(test)]
mod tests;
