//! A plugged-in CA: key and certificates from files with istiod's names (CA.md C23).

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    issuing::{
        issuer::{Issuer as _, LoadError, LocalIssuer},
        needs::{Needs, NeedsError},
    },
    trust::{
        bundle::{BundleError, TrustBundle},
        revocation::{RevocationError, Revocations},
    },
    x509::{
        key::{PrivateKey, PrivateKeyError},
        pem::{self, PemError},
    },
};

/// The files of a plugged-in CA: certificate of the signer, its key, those above it, the roots.
const CACERTS: Names = Names {
    certificate: "ca-cert.pem",
    key: "ca-key.pem",
    chain: Some("cert-chain.pem"),
    roots: "root-cert.pem",
};
/// The same as cert-manager and `kubectl create secret tls` name them.
const TLS: Names = Names { certificate: "tls.crt", key: "tls.key", chain: None, roots: "ca.crt" };
/// The file with revocation lists; it may be absent.
pub const REVOCATION_FILE: &str = "ca-crl.pem";

/// Every name that a file of a plugged-in CA may have.
pub const FILES: [&str; 8] = [
    CACERTS.certificate,
    CACERTS.key,
    "cert-chain.pem",
    CACERTS.roots,
    TLS.certificate,
    TLS.key,
    TLS.roots,
    REVOCATION_FILE,
];

struct Names {
    certificate: &'static str,
    key: &'static str,
    chain: Option<&'static str>,
    roots: &'static str,
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.certificate, self.key, self.roots].into_iter().chain(self.chain)
    }
}

/// Why files cannot be used as a CA.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PluggedError {
    /// Some files are there and others are not.
    #[error("{} missing although {present} is there; a plugged-in CA is {}", missing_text(missing), SETS)]
    Missing {
        /// The files that are not there.
        missing: Vec<&'static str>,
        /// One that is.
        present: &'static str,
    },
    /// Both sets of names.
    #[error("{0} and {1} are both there, and both name the CA; remove one set: a plugged-in CA is {SETS}")]
    Both(&'static str, &'static str),
    /// A file without certificates.
    #[error("{0}: {1}")]
    Certificates(&'static str, PemError),
    /// The key cannot be used.
    #[error("{0}: {1}")]
    Key(&'static str, PrivateKeyError),
    /// The roots cannot be used.
    #[error("{0}: {1}")]
    Roots(&'static str, BundleError),
    /// Key, chain and roots do not belong together, or a certificate of them is of no use.
    #[error("{files}: {source}")]
    Chain {
        /// The files.
        files: String,
        /// The problem.
        source: LoadError,
    },
    /// Clients would refuse what the CA signs.
    #[error("{certificate}: {source}")]
    Needs {
        /// The file of the signing certificate.
        certificate: &'static str,
        /// The problem.
        source: NeedsError,
    },
}

const SETS: &str =
    "ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, or tls.crt, tls.key and ca.crt";

fn missing_text(missing: &[&str]) -> String {
    format!("{} {}", missing.join(", "), if missing.len() == 1 { "is" } else { "are" })
}

/// The contents of the files that are there, by name. Wiped when dropped: one of them is a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PluggedFiles(BTreeMap<&'static str, Zeroizing<Vec<u8>>>);

impl FromIterator<(&'static str, Zeroizing<Vec<u8>>)> for PluggedFiles {
    fn from_iter<I: IntoIterator<Item = (&'static str, Zeroizing<Vec<u8>>)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl PluggedFiles {
    /// Whether there is nothing of a CA, so that none is plugged in. Revocation lists alone are no CA.
    pub fn is_empty(&self) -> bool {
        self.0.keys().all(|name| *name == REVOCATION_FILE)
    }

    /// Whether key, certificates and roots are the same in both, whatever the revocation lists.
    pub fn same_ca(&self, other: &Self) -> bool {
        let ca = |files: &Self| {
            let files = files.0.iter().filter(|(name, _)| **name != REVOCATION_FILE);
            files.map(|(name, content)| (*name, content.clone())).collect::<Vec<_>>()
        };
        ca(self) == ca(other)
    }

    /// The revocation lists, if there are any.
    fn revocation_lists(&self) -> Option<&[u8]> {
        self.0.get(REVOCATION_FILE).map(|content| content.as_slice())
    }

    fn names(&self) -> Result<&'static Names, PluggedError> {
        let some_of = |set: &Names| set.all().find(|name| self.0.contains_key(name));
        let set = match (some_of(&CACERTS), some_of(&TLS)) {
            (Some(one), Some(other)) => return Err(PluggedError::Both(one, other)),
            (None, Some(_)) => &TLS,
            _ => &CACERTS,
        };
        let missing: Vec<_> = set.all().filter(|name| !self.0.contains_key(name)).collect();
        match some_of(set) {
            Some(present) if !missing.is_empty() => Err(PluggedError::Missing { missing, present }),
            _ => Ok(set),
        }
    }

    fn content(&self, name: &'static str) -> &[u8] {
        self.0.get(name).map_or(&[], |content| content.as_slice())
    }

    fn certificates(&self, name: &'static str) -> Result<Vec<CertificateDer<'static>>, PluggedError> {
        pem::certificates(self.content(name)).map_err(|error| PluggedError::Certificates(name, error))
    }

    /// The file that holds a certificate, if one does.
    fn with(&self, certificate: &CertificateDer<'_>) -> Option<&'static str> {
        let holds = |name: &&'static str| {
            pem::certificates(self.content(name)).is_ok_and(|all| all.iter().any(|one| one == certificate))
        };
        FILES.into_iter().filter(|name| *name != REVOCATION_FILE).find(holds)
    }
}

/// A CA from files: what signs, and what peers trust.
pub struct PluggedCa {
    /// Signs certificates.
    pub issuer: LocalIssuer,
    /// What peers trust, without revocations.
    pub roots: TrustBundle,
}

impl PluggedCa {
    /// Reads a CA from its files.
    ///
    /// The certificates of the chain may be in any order, may begin with the signing certificate or with the one above it,
    /// and may end with the root. There may be none where a root signs.
    ///
    /// # Errors
    /// See [`PluggedError`]; each names its file.
    pub fn load(files: &PluggedFiles, needs: &Needs, now: OffsetDateTime) -> Result<Self, PluggedError> {
        let names = files.names()?;
        let own = files.certificates(names.certificate)?;
        let above = names.chain.filter(|name| !files.content(name).trim_ascii().is_empty());
        let above = above.map(|name| files.certificates(name)).transpose()?.unwrap_or_default();
        let roots = files.certificates(names.roots)?;
        let roots = TrustBundle::new(roots).map_err(|error| PluggedError::Roots(names.roots, error))?;
        let key = PrivateKey::from_pem(files.content(names.key));
        let key = key.map_err(|error| PluggedError::Key(names.key, error))?;
        let issuer = LocalIssuer::with(key, &own, &above, &roots, now).map_err(|source| {
            let file = match &source {
                LoadError::Chain(error) => {
                    error.certificate().and_then(|certificate| files.with(certificate))
                }
                LoadError::KeyMismatch(_) | LoadError::KeyKind(_) | LoadError::Key(_) => Some(names.key),
                LoadError::Path(_) | LoadError::Issue(_) => None,
            };
            let all = || names.all().collect::<Vec<_>>().join(", ");
            PluggedError::Chain { files: file.map_or_else(all, str::to_owned), source }
        })?;
        let certificate = names.certificate;
        needs.check(&issuer).map_err(|source| PluggedError::Needs { certificate, source })?;
        Ok(Self { issuer, roots })
    }

    /// The revocations in `files`, signed by this CA or one above it; none if there is no such file.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub fn revocations(
        issuer: &LocalIssuer,
        roots: &TrustBundle,
        files: &PluggedFiles,
        now: OffsetDateTime,
    ) -> Result<Revocations, RevocationError> {
        let Some(content) = files.revocation_lists() else { return Ok(Revocations::default()) };
        Revocations::from_pem(content, issuer.intermediates().iter().chain(roots.certificates()), now)
    }
}

#[cfg(test)]
mod tests;
