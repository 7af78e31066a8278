//! Signing: issues a certificate for a grant and a verified request.

use std::time::Duration;

use eastwest_identity::TrustDomain;
use rcgen::PublicKeyData as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::{
    issuing::{
        check,
        grant::Grant,
        profile::{self, ServingName},
        signer::{Contents, SignError, Signer},
        signing_chain::{ChainError, SigningChain},
    },
    trust::bundle::TrustBundle,
    x509::{
        self, Window,
        csr::VerifiedCsr,
        key::{NewKey, PrivateKey, PrivateKeyError},
        pem,
        public_key::{KeyKind, PublicKey, fingerprint, hex},
    },
};

/// Why issuing failed although the request is valid (gRPC Internal).
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
    /// The finished certificate does not match the profile; it is discarded.
    #[error("the finished certificate has {0}; it was thrown away")]
    SelfCheck(&'static str),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Sign(error.to_string())
    }
}

impl From<SignError> for IssueError {
    fn from(error: SignError) -> Self {
        Self::Sign(error.to_string())
    }
}

impl From<der::Error> for IssueError {
    fn from(error: der::Error) -> Self {
        Self::Sign(error.to_string())
    }
}

/// Why a key and certificates cannot be used as an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The certificates do not lead from the signing certificate to a root.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A kind of key that proxies do not verify.
    #[error("the CA key is {0}, which Envoy does not verify; use ECDSA P-256, P-384 or RSA")]
    KeyKind(KeyKind),
    /// A certificate made for trial does not lead to a root by the rules of TLS clients.
    #[error("clients would refuse what this chain signs: {0}")]
    Path(webpki::Error),
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

/// A certificate that was issued.
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

/// Issues workload certificates.
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
    signer: Signer,
    chain: SigningChain,
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
        let certificate = chain.first().cloned().ok_or(ChainError::NoCertificate)?;
        let chain = SigningChain::follow(chain, roots)?;
        let parsed = x509::parse(&certificate).ok_or(ChainError::Unreadable(0))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(LoadError::KeyMismatch);
        }
        let public = key.public()?;
        let signer =
            Signer::new(key, public.kind(), &parsed).ok_or_else(|| LoadError::KeyKind(public.kind()))?;
        let issuer = Self { signer, chain };
        issuer.try_out(&parsed, &public, now)?;
        Ok(issuer)
    }

    fn trial(&self, key: &PublicKey, now: OffsetDateTime) -> Result<CertificateDer<'static>, IssueError> {
        let localhost = ServingName::Dns("localhost".to_owned());
        Ok(self.issue_serving(&[localhost], key, Duration::from_secs(1), now)?.der)
    }

    /// Signs a certificate and verifies it as a client would.
    fn try_out(
        &self,
        certificate: &X509Certificate<'_>,
        key: &PublicKey,
        now: OffsetDateTime,
    ) -> Result<(), LoadError> {
        let trial = self.trial(key, now)?;
        let parsed = x509::parse(&trial).ok_or(IssueError::SelfCheck("no readable form"))?;
        if parsed.issuer().as_raw() != self.signer.name() {
            return Err(IssueError::SelfCheck("another issuer name").into());
        }
        if parsed.verify_signature(Some(certificate.public_key())).is_err() {
            return Err(IssueError::SelfCheck("a signature that does not verify").into());
        }
        let root = TrustBundle::new(vec![self.chain.root.clone()])
            .map_err(|_| ChainError::Broken(self.chain.intermediates.len()))?;
        match root.verify(&trial, &self.chain.intermediates, webpki::KeyUsage::server_auth(), now) {
            // Which names are permitted shows with each certificate; "localhost" need not be.
            Ok(()) | Err(webpki::Error::NameConstraintViolation) => Ok(()),
            Err(problem) => Err(LoadError::Path(problem)),
        }
    }

    /// The root that the chain leads to.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.chain.root
    }

    /// When that root runs out.
    pub fn root_not_after(&self) -> OffsetDateTime {
        self.chain.root_not_after
    }

    /// From when to when the whole chain is valid.
    pub fn validity(&self) -> (OffsetDateTime, OffsetDateTime) {
        (self.chain.window.not_before, self.chain.window.not_after)
    }

    /// Whether both sign with the same certificate below the same ones.
    pub fn same_chain(&self, other: &Self) -> bool {
        self.chain.intermediates == other.chain.intermediates && self.chain.root == other.chain.root
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
        self.sign(&profile::serving(names, serial, window)?, key)
    }

    /// Certifies the key that signs the ledger's checkpoints, for as long as the whole chain lives.
    pub(crate) fn issue_ledger(
        &self,
        key: &PublicKey,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let window = self.window_for(Duration::MAX, now)?;
        let serial = random_serial()?;
        self.sign(&profile::ledger(serial, window)?, key)
    }

    /// SHA-256 of the signing key's SubjectPublicKeyInfo in hexadecimal.
    pub fn key_sha256(&self) -> String {
        fingerprint(&self.signer.key().subject_public_key_info())
    }

    /// Whether the whole chain is valid at `now`.
    pub fn is_valid(&self, now: OffsetDateTime) -> bool {
        self.chain.window.contains(now)
    }

    fn sign(&self, contents: &Contents, key: &PublicKey) -> Result<IssuedCertificate, IssueError> {
        let Window { not_before, not_after } = contents.window;
        let der = self.signer.sign(contents, key)?;
        Ok(IssuedCertificate { der, serial: hex(&contents.serial), not_before, not_after })
    }

    fn window_for(&self, lifetime: Duration, now: OffsetDateTime) -> Result<Window, IssueError> {
        let chain = self.chain.window;
        let window = profile::window(now, lifetime, chain);
        if chain.contains(now) && window.not_after > now {
            Ok(window)
        } else {
            Err(IssueError::SignerExpired { from: chain.not_before, until: chain.not_after })
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
        let issued = self.sign(&profile::leaf(grant.identity(), key.kind(), serial, window)?, key)?;
        let expected =
            check::Expected { identity: grant.identity(), key, window, issuer: self.signer.name() };
        check::leaf(&issued.der, &expected).map_err(IssueError::SelfCheck)?;
        Ok(issued)
    }

    fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.chain.intermediates
    }

    fn not_after(&self) -> OffsetDateTime {
        self.chain.window.not_after
    }
}

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

/// 128 random bits.
fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| IssueError::Random)?;
    serial[0] |= 0x40; // one length for all, and never zero
    Ok(serial)
}
