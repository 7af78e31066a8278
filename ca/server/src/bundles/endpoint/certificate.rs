//! The certificate of the bundle endpoint: files of a public CA (profile `https_web`), or an X.509-SVID of our own
//! (`https_spiffe`). Either is renewed while the endpoint serves.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use eastwest_ca::{
    Caller, IssueError, Issuer as _, PrivateKey, Proof, Refusal, VerifiedCsr, key::PrivateKeyError,
};
use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use eastwest_io::SourceStatus;
use rustls::{
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::issuing::certificate_authority::CertificateAuthority;

/// How often the files, or the trust domain, are looked at.
const POLL: Duration = Duration::from_secs(5);
/// Life of the SVID, of which half is used.
const SVID_LIFE: i64 = 3600;
/// The subject of problems with the certificate.
const SUBJECT: &str = "bundle-certificate";
/// Service account in the SVID's SPIFFE ID.
const SERVICE_ACCOUNT: &str = "eastwest";

/// Why the endpoint has no certificate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file without certificate or key.
    #[error("{}: holds no {what} in PEM", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not fit each other, or TLS cannot use them.
    #[error("{} with {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The problem.
        source: rustls::Error,
    },
    /// No SVID of our own could be made.
    #[error("no certificate for the bundle endpoint: {0}")]
    Svid(#[from] SvidError),
}

/// Why no SVID of our own could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SvidError {
    /// The namespace makes no SPIFFE ID.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The bounds of lifetimes exclude it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Signing failed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// TLS cannot use it.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The endpoint's certificate and where newer ones come from.
pub struct Certificate {
    presented: Arc<PresentedCertificate>,
    source: Source,
    followed: Arc<SourceStatus>,
}

enum Source {
    Files(Files),
    Svid(OwnSvid),
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

struct OwnSvid {
    ca: Arc<CertificateAuthority>,
    namespace: String,
}

/// The certificate presented at the moment.
#[derive(Debug)]
struct PresentedCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for PresentedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Profile `https_web`: a chain and its key in PEM, read again whenever they change.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn of_files(certificate: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let files = Files { certificate, key };
        let first = files.load()?;
        let followed = Arc::new(SourceStatus::new(SUBJECT, files.certificate.display()));
        Ok(Self {
            presented: Arc::new(PresentedCertificate(ArcSwap::from(first))),
            source: Source::Files(files),
            followed,
        })
    }

    /// Profile `https_spiffe`: an X.509-SVID of `ca` for `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/eastwest`.
    ///
    /// # Errors
    /// It cannot be issued.
    pub fn of_ca(ca: Arc<CertificateAuthority>, namespace: &str) -> Result<Self, CertificateError> {
        let own = OwnSvid { ca, namespace: namespace.to_owned() };
        let (first, _) = own.issue(OffsetDateTime::now_utc())?;
        let followed = Arc::new(SourceStatus::new(SUBJECT, "our own CA"));
        Ok(Self {
            presented: Arc::new(PresentedCertificate(ArcSwap::from(first))),
            source: Source::Svid(own),
            followed,
        })
    }

    /// Where newer ones come from, with what is wrong with that.
    pub fn followed(&self) -> Arc<SourceStatus> {
        Arc::clone(&self.followed)
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.presented) as _
    }

    /// Renews it; never returns. If that fails, the last certificate stays.
    pub(super) async fn keep(&self) {
        match &self.source {
            Source::Files(files) => files.keep(&self.presented, &self.followed).await,
            Source::Svid(own) => own.keep(&self.presented, &self.followed).await,
        }
    }
}

impl Files {
    fn load(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source })
        };
        let lacks = |path: &PathBuf, what| CertificateError::Pem { path: path.clone(), what };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&self.certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| lacks(&self.certificate, "certificate"))?;
        let key = Zeroizing::new(read(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| lacks(&self.key, "private key"))?;
        let pair = CertifiedKey::from_der(chain, key, &ring::default_provider());
        pair.map(Arc::new).map_err(|source| CertificateError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
    }

    /// Files that are replaced one after the other may not match for a moment, so only a lasting problem is reported.
    async fn keep(&self, presented: &PresentedCertificate, followed: &SourceStatus) {
        let (mut seen, mut failed) = (self.changed(), false);
        loop {
            sleep(POLL).await;
            let now = self.changed();
            if now == seen && !failed {
                continue;
            }
            match self.load() {
                Ok(pair) => {
                    presented.0.store(pair);
                    tracing::info!("bundle endpoint: new certificate from {}", self.certificate.display());
                    followed.note(Ok(()));
                    failed = false;
                }
                Err(error) => {
                    let told = format!("{error}; the last good certificate stays");
                    if failed && now == seen && followed.note(Err(told.clone())) {
                        tracing::warn!("bundle endpoint: {told}");
                    }
                    failed = true;
                }
            }
            seen = now;
        }
    }
}

impl OwnSvid {
    fn identity(&self, domain: &TrustDomain) -> Result<SpiffeId, IdentityError> {
        SpiffeId::workload(domain, &self.namespace, SERVICE_ACCOUNT)
    }

    /// A certificate and when to renew it.
    fn issue(&self, now: OffsetDateTime) -> Result<(Arc<CertifiedKey>, OffsetDateTime), SvidError> {
        let ca_state = self.ca.ca_state();
        let caller = Caller::new(self.identity(&ca_state.trust_domain)?, Proof::Operator);
        let grant = ca_state.authorizer.authorize(&caller, SVID_LIFE)?;
        let key = PrivateKey::generate()?;
        let leaf = ca_state.issuer.issue(&grant, &VerifiedCsr::of(&key)?, now)?;
        let intermediates = ca_state.issuer.intermediates().iter().cloned();
        let chain = std::iter::once(leaf.der.clone()).chain(intermediates).collect();
        let signer = ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.pkcs8().into()))?;
        Ok((Arc::new(CertifiedKey::new(chain, signer)), now + (leaf.not_after - now) / 2))
    }

    async fn keep(&self, presented: &PresentedCertificate, followed: &SourceStatus) {
        let (mut domain, mut issued_at, mut renew_at) =
            (None, OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH);
        loop {
            let (now, current) = (OffsetDateTime::now_utc(), self.ca.ca_state().trust_domain.clone());
            if now >= renew_at || now < issued_at || domain.as_ref() != Some(&current) {
                match self.issue(now) {
                    Ok((pair, at)) => {
                        presented.0.store(pair);
                        (domain, issued_at, renew_at) = (Some(current), now, at);
                        followed.note(Ok(()));
                    }
                    Err(error) => {
                        let told = format!("{error}; the last certificate stays");
                        if followed.note(Err(told.clone())) {
                            tracing::warn!("bundle endpoint: {told}");
                        }
                    }
                }
            }
            sleep(POLL).await;
        }
    }
}
