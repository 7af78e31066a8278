//! Trust bundles: the roots of a trust domain, and path verification with them.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use time::OffsetDateTime;
use webpki::{Cert, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::{
    trust::{
        constrained_path::{self, Purpose},
        revocation::Revocations,
    },
    x509::{
        self, Window,
        pem::{self, PemError},
    },
};

/// id-kp-documentSigning (RFC 9336 §3.1), the content of its OBJECT IDENTIFIER.
const DOCUMENT_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x24";

/// Why certificates do not make a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// No PEM certificates.
    #[error("trust bundle: {0}")]
    Pem(#[from] PemError),
    /// No certificate at all.
    #[error("trust bundle: there is no certificate")]
    Empty,
    /// A certificate that cannot be read; the first one is 1.
    #[error("trust bundle: certificate {0} cannot be read: it is damaged, or of a version before 3")]
    Unreadable(usize),
    /// A certificate that may not sign: its subject, and why.
    #[error("trust bundle: the certificate of {0} is not that of a CA: {1}")]
    NotACa(String, &'static str),
}

/// The roots of one trust domain, at least one and none twice, and what has been revoked below them.
#[derive(Debug, Clone)]
pub struct TrustBundle {
    roots: Vec<Root>,
    revocations: Arc<Revocations>,
}

#[derive(Debug, Clone)]
struct Root {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    window: Window,
}

impl TrustBundle {
    /// A bundle of these roots.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let mut roots: Vec<Root> = Vec::with_capacity(certificates.len());
        for (at, der) in certificates.into_iter().enumerate() {
            let unreadable = BundleError::Unreadable(at + 1);
            let Some(parsed) = x509::parse(&der) else { return Err(unreadable) };
            if let Some(problem) = x509::not_a_ca(&parsed) {
                return Err(BundleError::NotACa(x509::name_of(&parsed), problem));
            }
            let window = x509::window(&parsed);
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| unreadable)?;
            let anchor = anchor.to_owned();
            if roots.iter().all(|root| root.der != der) {
                roots.push(Root { der, anchor, window });
            }
        }
        if roots.is_empty() {
            Err(BundleError::Empty)
        } else {
            Ok(Self { roots, revocations: Arc::default() })
        }
    }

    /// The same roots with these revocations instead of those before.
    #[must_use]
    pub fn with_revocations(self, revocations: Arc<Revocations>) -> Self {
        Self { revocations, ..self }
    }

    /// What has been revoked below the roots.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// These roots and then those of `other` that are not among them.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for root in &other.roots {
            if !self.contains(&root.der) {
                self.roots.push(root.clone());
            }
        }
        self
    }

    /// A bundle from a file of PEM.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn from_pem(file: &(impl AsRef<[u8]> + ?Sized)) -> Result<Self, BundleError> {
        Self::new(pem::certificates(file)?)
    }

    /// All roots as PEM, one block after the other.
    pub fn pem(&self) -> String {
        self.certificates().map(|der| pem::encode(pem::CERTIFICATE, der)).collect()
    }

    /// The roots.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.der)
    }

    /// Whether `certificate` is one of the roots.
    pub fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates().any(|root| root == certificate)
    }

    /// When the last of the roots runs out.
    pub fn not_after(&self) -> OffsetDateTime {
        self.roots.iter().map(|root| root.window.not_after).max().unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// When the roots run out that are valid at `now`.
    pub(crate) fn ends(&self, now: OffsetDateTime) -> impl Iterator<Item = OffsetDateTime> {
        self.valid(now).map(|root| root.window.not_after)
    }

    /// Verifies the path from the `leaf` of a TLS client to a root that is itself valid at `now` (RFC 5280 §6), its names
    /// included. No certificate of the path may have been revoked.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn verify_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        self.verify(leaf, intermediates, Purpose::Client, now)
    }

    /// The same for the leaf of a TLS server. Whether it is that of the server wanted is not looked at.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub(crate) fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        self.verify(leaf, intermediates, Purpose::Server, now)
    }

    /// Whether a path leads from `leaf` to a root, and it is the certificate of a key that signs the ledger's
    /// checkpoints.
    ///
    /// That usage is asked of the leaf alone: what is plugged in may say nothing of usages, or TLS only, and RFC 5280
    /// §4.2.1.12 does not have a CA's usages limit those of the certificates below it.
    pub(crate) fn vouches_for_ledger_key(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> bool {
        let verified = || self.verify_by_webpki(leaf, intermediates, AnyUsage, now);
        x509::has_usage(leaf, DOCUMENT_SIGNING) && verified().is_ok()
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        let Err(error) = self.verify_by_webpki(leaf, intermediates, purpose.usage(), now) else {
            return Ok(());
        };
        let roots: Vec<_> = self.valid(now).map(|root| &root.der).collect();
        // webpki names one of several errors; that it is about names does not always show.
        if !intermediates.iter().chain(roots.iter().copied()).any(constrained_path::constrains_uris) {
            return Err(error);
        }
        let path = constrained_path::verify(leaf, intermediates, &roots, purpose, now).ok_or(error)?;
        self.revocations.check_chain(&path)
    }

    /// Verifies as programs with webpki do, our agent among them: they refuse each URI below a constraint of URIs.
    pub(crate) fn verify_by_webpki(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: impl ExtendedKeyUsageValidator,
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        // An anchor carries no dates, so the roots that are not valid now are left out beforehand.
        let anchors: Vec<TrustAnchor<'_>> = self.valid(now).map(|root| root.anchor.clone()).collect();
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                usage,
                None,
                Some(&|path| {
                    path.intermediate_certificates().try_for_each(may_sign)?;
                    self.revocations.check(path)
                }),
            )
            .map(|_| ())
    }

    fn valid(&self, now: OffsetDateTime) -> impl Iterator<Item = &Root> {
        self.roots.iter().filter(move |root| root.window.contains(now))
    }
}

/// Usages do not count.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// That an intermediate's key usage lets it sign (RFC 5280 §6.1.4 n), at which webpki does not look.
fn may_sign(intermediate: &Cert<'_>) -> Result<(), webpki::Error> {
    match x509::parse(&intermediate.der()).map(|parsed| x509::not_a_ca(&parsed)) {
        Some(None) => Ok(()),
        _ => Err(webpki::Error::EndEntityUsedAsCa),
    }
}
