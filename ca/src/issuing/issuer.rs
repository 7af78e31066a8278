//! Signing: issues a certificate for a grant and a verified request.

use std::time::Duration;

use der::asn1::Ia5String;
use eastwest_identity::TrustDomain;
use rcgen::PublicKeyData as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_cert::ext::pkix::name::GeneralName;
use x509_parser::certificate::X509Certificate;

use crate::{
    issuing::{
        check,
        grant::Grant,
        profile,
        signer::{Contents, SignError, Signer},
    },
    names::ServingName,
    trust::{
        bundle::TrustBundle,
        ca_chain::{CaChain, ChainError, ChainProblem},
    },
    x509::{
        self, Window,
        csr::VerifiedCsr,
        key::{PrivateKey, PrivateKeyError},
        name_constraints::Violation,
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
    /// A CA of the chain does not allow a name: every client would refuse the certificate.
    #[error("{0}")]
    Constraint(#[from] Violation),
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
    #[error("clients would refuse what this chain signs: {}", path_problem(.0))]
    Path(webpki::Error),
    /// The key is not that of the signing certificate, whose subject this is.
    #[error(
        "the private key does not belong to the signing certificate ({0}): give the key of that certificate, or the \
         certificate of that key"
    )]
    KeyMismatch(String),
    /// The key is of no use.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The chain is not valid now, or a trial signature failed.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// What clients object to, with the remedy.
fn path_problem(error: &webpki::Error) -> String {
    match error {
        webpki::Error::NameConstraintViolation => "programs that verify with rustls, among them the agent and ztunnel, \
             refuse a CA certificate with a URI name below a CA that constrains URIs; have it issued without that name"
            .to_owned(),
        webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
            "a CA certificate has an extended key usage without serverAuth and clientAuth; have it issued with both, or \
             without that extension"
                .to_owned()
        }
        webpki::Error::UnsupportedCriticalExtension => {
            "a CA certificate has a critical extension that TLS clients do not know; have it issued without".to_owned()
        }
        other => other.to_string(),
    }
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
    chain: CaChain,
}

impl LocalIssuer {
    /// An issuer from a key, its certificate and those above it, in any order. Roots belong to the bundle and are left out of
    /// the chain, and so is what it does not need. Signs one certificate for trial.
    ///
    /// # Errors
    /// Key and chain do not belong together, do not lead to `roots`, are not valid at `now`, or clients would refuse what
    /// they sign.
    pub fn new(
        key: PrivateKey,
        chain: Vec<CertificateDer<'static>>,
        roots: &TrustBundle,
        now: OffsetDateTime,
    ) -> Result<Self, LoadError> {
        Self::with(key, &chain, &[], roots, now)
    }

    /// The same, where the certificate of the key is one of `own`, and those above it are among these and `others`.
    pub(crate) fn with(
        key: PrivateKey,
        own: &[CertificateDer<'static>],
        others: &[CertificateDer<'static>],
        roots: &TrustBundle,
        now: OffsetDateTime,
    ) -> Result<Self, LoadError> {
        let certificate = certificate_of(&key, own, now)?;
        let (all, roots): (Vec<_>, Vec<_>) = ([own, others].concat(), roots.certificates().collect());
        let chain = CaChain::follow(certificate, &all, &roots, now)?;
        let unreadable = || ChainError::of(certificate, ChainProblem::Unreadable);
        let parsed = x509::parse(certificate).ok_or_else(unreadable)?;
        let public = key.public()?;
        let signer =
            Signer::new(key, public.kind(), &parsed).ok_or_else(|| LoadError::KeyKind(public.kind()))?;
        let issuer = Self { signer, chain };
        issuer.try_out(&parsed, &public, now)?;
        Ok(issuer)
    }

    /// Signs a certificate without names and verifies it as clients with webpki would, our agent among them.
    fn try_out(
        &self,
        certificate: &X509Certificate<'_>,
        key: &PublicKey,
        now: OffsetDateTime,
    ) -> Result<(), LoadError> {
        let window = self.window_for(Duration::from_secs(1), now)?;
        let trial = self.sign(&profile::trial(random_serial()?, window), key)?.der;
        let parsed = x509::parse(&trial).ok_or(IssueError::SelfCheck("no readable form"))?;
        if parsed.issuer().as_raw() != self.signer.name() {
            return Err(IssueError::SelfCheck("another issuer name").into());
        }
        if parsed.verify_signature(Some(certificate.public_key())).is_err() {
            return Err(IssueError::SelfCheck("a signature that does not verify").into());
        }
        let root = TrustBundle::new(vec![self.chain.root.clone()])
            .map_err(|_| ChainError::of(&self.chain.root, ChainProblem::Unreadable))?;
        [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()].into_iter().try_for_each(|usage| {
            root.verify_by_webpki(&trial, &self.chain.intermediates, usage, now).map_err(LoadError::Path)
        })
    }

    /// That the name constraints of the chain allow identities of a trust domain.
    ///
    /// # Errors
    /// The constraint that forbids them.
    pub fn check_trust_domain(&self, domain: &TrustDomain) -> Result<(), IssueError> {
        let uri = Ia5String::new(&format!("spiffe://{domain}"))?;
        Ok(self.chain.constraints.check(&GeneralName::UniformResourceIdentifier(uri))?)
    }

    /// That the name constraints of the chain allow a name in a certificate.
    ///
    /// # Errors
    /// The constraint that forbids it.
    pub fn check_name(&self, name: &ServingName) -> Result<(), IssueError> {
        Ok(self.chain.constraints.check(&name.general_name()?)?)
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

    /// Signs what the name constraints of the chain allow.
    fn sign(&self, contents: &Contents, key: &PublicKey) -> Result<IssuedCertificate, IssueError> {
        contents.names.iter().try_for_each(|name| self.chain.constraints.check(name))?;
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
        let names = profile::leaf_names(grant.identity(), grant.names())?;
        let issued = self.sign(&profile::leaf(names.clone(), key.kind(), serial, window), key)?;
        let expected =
            check::Expected { identity: grant.identity(), names, key, window, issuer: self.signer.name() };
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

/// The certificate of `key` among `own`: of several, the first that is valid now.
fn certificate_of<'a>(
    key: &PrivateKey,
    own: &'a [CertificateDer<'static>],
    now: OffsetDateTime,
) -> Result<&'a CertificateDer<'static>, LoadError> {
    let first = own.first().ok_or(ChainError::from(ChainProblem::NoCertificate))?;
    let (spki, mut found) = (key.subject_public_key_info(), None);
    for der in own {
        let parsed = x509::parse(der).ok_or_else(|| ChainError::of(der, ChainProblem::Unreadable))?;
        if parsed.public_key().raw == spki {
            if x509::window(&parsed).contains(now) {
                return Ok(der);
            }
            found.get_or_insert(der);
        }
    }
    let subject = || x509::parse(first).map_or_else(String::new, |parsed| x509::name_of(&parsed));
    found.ok_or_else(|| LoadError::KeyMismatch(subject()))
}

/// 128 random bits.
pub(crate) fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| IssueError::Random)?;
    serial[0] |= 0x40; // one length for all, and never zero
    Ok(serial)
}
