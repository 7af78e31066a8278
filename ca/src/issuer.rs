//! Signing: a grant and a verified request become a certificate.

use std::time::Duration;

use eastwest_model::TrustDomain;
use rcgen::{PublicKeyData as _, SerialNumber};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;

use crate::{
    bundle::TrustBundle,
    check,
    csr::VerifiedCsr,
    grant::Grant,
    key::{PrivateKey, PrivateKeyError},
    pem,
    profile::{self, ServingName},
    public_key::{PublicKey, hex},
    x509::{self, Window},
};

/// Why no certificate was made although the caller did nothing wrong (gRPC Internal).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The signing certificate, or one above it, is not valid now.
    #[error("the signing chain is valid from {from} until {until} only: check the clock, or renew the CA")]
    SignerExpired {
        /// When all of the chain has become valid.
        from: OffsetDateTime,
        /// When the first of the chain runs out.
        until: OffsetDateTime,
    },
    /// The system had no random numbers.
    #[error("no serial number: the system gave no random numbers")]
    Random,
    /// Encoding or signing failed.
    #[error("the certificate could not be made: {0}")]
    Sign(String),
    /// What was signed is not what was meant; it is thrown away.
    #[error("the finished certificate has {0}; it was thrown away")]
    SelfCheck(&'static str),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Sign(error.to_string())
    }
}

/// Why key and certificates make no issuer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
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
    /// The key is not that of the signing certificate.
    #[error("the private key does not belong to the signing certificate")]
    KeyMismatch,
    /// The key is of no use.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The chain is not valid now, or a trial signature failed.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// A certificate that we made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Start of its life.
    pub not_before: OffsetDateTime,
    /// End of its life.
    pub not_after: OffsetDateTime,
}

impl IssuedCertificate {
    /// The certificate as one PEM block.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }
}

/// Something that signs workload certificates.
pub trait Issuer: Send + Sync {
    /// Certifies the request's key for the grant's identity.
    ///
    /// # Errors
    /// [`IssueError`]: never the caller's fault.
    fn issue(
        &self,
        grant: &Grant,
        csr: &VerifiedCsr,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError>;

    /// The certificates between a leaf and the roots, lowest first; none if a root signs.
    fn intermediates(&self) -> &[CertificateDer<'static>];

    /// When the first certificate of the signing chain runs out: no leaf lives longer.
    fn not_after(&self) -> OffsetDateTime;
}

/// An issuer whose key is in this process.
pub struct LocalIssuer {
    signer: rcgen::Issuer<'static, PrivateKey>,
    /// The signer's subject in DER.
    name: Vec<u8>,
    intermediates: Vec<CertificateDer<'static>>,
    window: Window,
}

impl LocalIssuer {
    /// An issuer from a key and its chain: the signing certificate first, then those above it. Roots at the end of
    /// the chain are dropped, since they belong to the bundle. Signs one certificate for trial.
    ///
    /// # Errors
    /// Key and chain do not belong together, do not lead to `roots`, or are not valid at `now`.
    pub fn new(
        key: PrivateKey,
        chain: Vec<CertificateDer<'static>>,
        roots: &TrustBundle,
        now: OffsetDateTime,
    ) -> Result<Self, LoadError> {
        let certificate = chain.first().cloned().ok_or(LoadError::NoCertificate)?;
        let window = check_chain(&chain, roots)?;
        let parsed = x509::parse(&certificate).ok_or(LoadError::Unreadable(0))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(LoadError::KeyMismatch);
        }
        let name = parsed.subject().as_raw().to_vec();
        let public = key.public()?;
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(IssueError::from)?;
        let intermediates = chain.into_iter().take_while(|c| !roots.contains(c)).collect();
        let issuer = Self { signer, name, intermediates, window };

        let localhost = ServingName::Dns("localhost".to_owned());
        let trial = issuer.issue_serving(&[localhost], &public, Duration::from_secs(1), now)?;
        let trial = x509::parse(&trial.der).ok_or(IssueError::SelfCheck("no readable form"))?;
        if trial.issuer().as_raw() != issuer.name
            || trial.verify_signature(Some(parsed.public_key())).is_err()
        {
            return Err(IssueError::SelfCheck("a signature that does not verify").into());
        }
        Ok(issuer)
    }

    /// Makes the certificate of one of our own servers for `names`.
    ///
    /// # Errors
    /// The chain is not valid at `now`, or signing failed.
    pub fn issue_serving(
        &self,
        names: &[ServingName],
        key: &PublicKey,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let window = self.window_for(lifetime, now)?;
        let serial = random_serial()?;
        let params = profile::serving(names, SerialNumber::from_slice(&serial), window)?;
        Ok(issued(params.signed_by(key, &self.signer)?.into(), &serial, window))
    }

    /// Whether the whole chain is valid at `now`.
    pub fn is_valid(&self, now: OffsetDateTime) -> bool {
        self.window.contains(now)
    }

    fn window_for(&self, lifetime: Duration, now: OffsetDateTime) -> Result<Window, IssueError> {
        let window = profile::window(now, lifetime, self.window);
        if self.window.contains(now) && window.not_after > now {
            Ok(window)
        } else {
            Err(IssueError::SignerExpired { from: self.window.not_before, until: self.window.not_after })
        }
    }
}

impl Issuer for LocalIssuer {
    fn issue(
        &self,
        grant: &Grant,
        csr: &VerifiedCsr,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let window = self.window_for(grant.lifetime(), now)?;
        let serial = random_serial()?;
        let key = csr.key();
        let params = profile::leaf(grant.identity(), key.kind(), SerialNumber::from_slice(&serial), window)?;
        let der: CertificateDer<'static> = params.signed_by(key, &self.signer)?.into();
        let expected = check::Expected { identity: grant.identity(), key, window, issuer: &self.name };
        check::leaf(&der, &expected).map_err(IssueError::SelfCheck)?;
        Ok(issued(der, &serial, window))
    }

    fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    fn not_after(&self) -> OffsetDateTime {
        self.window.not_after
    }
}

/// Makes a self-signed root for `trust_domain`: ten years, backdated.
///
/// # Errors
/// No random numbers, or signing failed.
pub fn self_signed_root(
    trust_domain: &TrustDomain,
    key: &PrivateKey,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, IssueError> {
    let serial = SerialNumber::from_slice(&random_serial()?);
    Ok(profile::root(trust_domain, serial, now).self_signed(key)?.into())
}

/// The time during which all of `chain` and the root above it are valid.
fn check_chain(chain: &[CertificateDer<'static>], roots: &TrustBundle) -> Result<Window, LoadError> {
    let mut common: Option<Window> = None;
    for (at, der) in chain.iter().enumerate() {
        let certificate = x509::parse(der).ok_or(LoadError::Unreadable(at))?;
        if let Some(problem) = x509::not_a_ca(&certificate) {
            return Err(LoadError::NotACa(at, problem));
        }
        let window = x509::window(&certificate);
        let so_far = common.map_or(window, |common| common.and(window));
        common = Some(so_far);
        if roots.contains(der) {
            return Ok(so_far);
        }
        let above = chain.get(at + 1).into_iter().chain(roots.certificates());
        let signed_by = |signer: &x509_parser::certificate::X509Certificate<'_>| {
            certificate.issuer().as_raw() == signer.subject().as_raw()
                && certificate.verify_signature(Some(signer.public_key())).is_ok()
        };
        let signer = above.filter_map(|der| x509::parse(der)).find(signed_by).ok_or(LoadError::Broken(at))?;
        if at + 1 == chain.len() {
            return Ok(so_far.and(x509::window(&signer)));
        }
    }
    Err(LoadError::NoCertificate)
}

fn issued(der: CertificateDer<'static>, serial: &[u8], window: Window) -> IssuedCertificate {
    IssuedCertificate { der, serial: hex(serial), not_before: window.not_before, not_after: window.not_after }
}

/// 128 random bits.
fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| IssueError::Random)?;
    serial[0] |= 0x40; // one length for all, and never zero
    Ok(serial)
}
