//! The chain from a CA certificate to its root, verified as RFC 5280 §6.1 says, but for names: those of a leaf are checked
//! with the constraints that the chain collects.

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::{
    rfc3339,
    x509::{
        self, Window,
        name_constraints::{MalformedConstraint, NameConstraints, Violation},
        public_key::{KeyError, PublicKey},
        signed::Signed,
    },
};

/// Most CA certificates of a chain.
const MAX_CHAIN: usize = 10;

/// Why certificates are no chain of CAs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}", subject.as_ref().map_or_else(String::new, |subject| format!("the certificate of {subject} ")))]
pub struct ChainError {
    subject: Option<String>,
    certificate: Option<CertificateDer<'static>>,
    problem: Box<ChainProblem>,
}

impl ChainError {
    /// What is wrong with a certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>, problem: ChainProblem) -> Self {
        let subject = x509::parse(certificate).map(|parsed| x509::name_of(&parsed));
        let certificate = Some(certificate.clone().into_owned());
        Self {
            subject: Some(subject.unwrap_or_else(|| "an unknown subject".to_owned())),
            certificate,
            problem: Box::new(problem),
        }
    }

    /// What is wrong.
    pub fn problem(&self) -> &ChainProblem {
        &self.problem
    }

    /// The certificate that it is about, if it is about one.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }
}

impl From<ChainProblem> for ChainError {
    fn from(problem: ChainProblem) -> Self {
        Self { subject: None, certificate: None, problem: Box::new(problem) }
    }
}

/// What is wrong with a chain or with a certificate of it, as the end of a sentence about that certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainProblem {
    /// No certificate at all.
    #[error("there is no signing certificate")]
    NoCertificate,
    /// It cannot be read.
    #[error("cannot be read; it is damaged: get it again from who issued it")]
    Unreadable,
    /// It may not sign.
    #[error("is not that of a CA: {0}")]
    NotACa(&'static str),
    /// None of its signer.
    #[error(
        "is signed by {0}, of which there is no certificate among those of the chain and the roots: add it, up to a root \
         that stands among the roots"
    )]
    Orphan(String),
    /// Its signer is no root of ours.
    #[error(
        "is signed by {0}, which does not stand among the roots: add that certificate to them, so that workloads trust it"
    )]
    Untrusted(String),
    /// One of its signer's name that did not sign it.
    #[error(
        "names {0} as its signer, but the key in the certificate of that name did not sign it: put the certificate there \
         that signed it; a CA that was made anew with the same name has another key"
    )]
    OtherSigner(String),
    /// A chain of more than ten.
    #[error("is one of more than {MAX_CHAIN} of a chain; clients do not follow so many")]
    TooMany,
    /// A CA below one that allows fewer of them.
    #[error(
        "allows {limit} CAs between itself and a leaf (path length), and there are {below}: sign with that CA itself, or \
         have it issued again with a path length of {below}"
    )]
    PathLength {
        /// How many there are.
        below: usize,
        /// How many it allows.
        limit: u32,
    },
    /// A signature that clients do not accept.
    #[error(
        "is signed with {0}, which TLS clients do not accept: have it signed again with SHA-256 (`openssl x509 -req \
         -sha256`, `openssl ca -md sha256`)"
    )]
    WeakSignature(String),
    /// A key that clients do not accept.
    #[error("has a key that TLS clients do not accept: {0}; make a new key, and a new certificate for it")]
    Key(KeyError),
    /// It has run out.
    #[error("has run out at {0}: renew it")]
    Expired(String),
    /// It is not valid yet.
    #[error("is not valid before {0}: check the clock of this machine, or have it issued again")]
    NotYet(String),
    /// Its name constraints are none.
    #[error("{0}")]
    Constraint(MalformedConstraint),
    /// It constrains directory names.
    #[error(
        "constrains directory names ({0}), and programs that verify with rustls, among them the agent and ztunnel, refuse \
         everything below such a CA: have it issued without that constraint"
    )]
    DirectoryNames(String),
    /// A CA above it does not allow a name of it.
    #[error(
        "has a name that a CA above does not allow ({0}): have it issued again without that name, or with another CA \
         above"
    )]
    Name(Violation),
}

/// A verified chain that leads to a root.
pub(crate) struct CaChain {
    /// What goes over the wire: the chain without its root, lowest first.
    pub(crate) intermediates: Vec<CertificateDer<'static>>,
    /// The root it leads to.
    pub(crate) root: CertificateDer<'static>,
    /// When that root runs out.
    pub(crate) root_not_after: OffsetDateTime,
    /// When all of it, root included, is valid.
    pub(crate) window: Window,
    /// The constraints of all of it, root included.
    pub(crate) constraints: NameConstraints,
}

impl CaChain {
    /// Follows `lowest` to one of `roots`, by way of `others`, in whatever order they are. Those that are not needed are
    /// left out.
    pub(crate) fn follow(
        lowest: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        roots: &[&CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<Self, ChainError> {
        let mut path = vec![lowest];
        loop {
            let (at, newest) = (path.len() - 1, path[path.len() - 1]);
            let problem = |problem| ChainError::of(newest, problem);
            let parsed = x509::parse(newest).ok_or_else(|| problem(ChainProblem::Unreadable))?;
            check_ca(&parsed, at, now).map_err(problem)?;
            if roots.contains(&newest) {
                return Self::of(&path);
            }
            check_signature(newest).map_err(problem)?;
            let leads_on = |other: &&CertificateDer<'_>| {
                !path.contains(other) && (roots.contains(other) || !is_self_issued(other))
            };
            let next = best_signer(newest, others.iter().filter(leads_on), now)
                .or_else(|| best_signer(newest, roots.iter().copied(), now))
                .ok_or_else(|| no_signer(newest, others, roots, now))?;
            if path.len() == MAX_CHAIN {
                return Err(problem(ChainProblem::TooMany));
            }
            path.push(next);
        }
    }

    /// The whole chain `path`, whose last one is the root. Names of each CA are checked with those above it.
    fn of(path: &[&CertificateDer<'_>]) -> Result<Self, ChainError> {
        let mut constraints = NameConstraints::default();
        let mut window: Option<Window> = None;
        for der in path.iter().rev() {
            let problem = |problem| ChainError::of(der, problem);
            let parsed = x509::parse(der).ok_or_else(|| problem(ChainProblem::Unreadable))?;
            constraints.check_all(&parsed).map_err(|error| problem(ChainProblem::Name(error)))?;
            let own =
                NameConstraints::of(&parsed).map_err(|error| problem(ChainProblem::Constraint(error)))?;
            if let Some(constraint) = own.directory_names() {
                return Err(problem(ChainProblem::DirectoryNames(constraint)));
            }
            constraints = constraints.and(own);
            let own = x509::window(&parsed);
            window = Some(window.map_or(own, |window| window.and(own)));
        }
        let (root, intermediates) = path.split_last().ok_or(ChainProblem::NoCertificate)?;
        let (window, of_root) = window.zip(x509::parse(root)).ok_or(ChainProblem::NoCertificate)?;
        Ok(Self {
            intermediates: intermediates.iter().map(|&der| der.clone().into_owned()).collect(),
            root: (*root).clone().into_owned(),
            root_not_after: x509::window(&of_root).not_after,
            window,
            constraints,
        })
    }
}

/// That the certificate may sign now, with `below` others between it and a leaf (RFC 5280 §4.2.1.9).
fn check_ca(
    certificate: &X509Certificate<'_>,
    below: usize,
    now: OffsetDateTime,
) -> Result<(), ChainProblem> {
    if let Some(problem) = x509::not_a_ca(certificate) {
        return Err(ChainProblem::NotACa(problem));
    }
    let limit = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.path_len_constraint,
        _ => None,
    };
    if let Some(limit) = limit.filter(|&limit| below > usize::try_from(limit).unwrap_or(usize::MAX)) {
        return Err(ChainProblem::PathLength { below, limit });
    }
    check_key(certificate)?;
    let window = x509::window(certificate);
    if now > window.not_after {
        return Err(ChainProblem::Expired(rfc3339::text(window.not_after)));
    }
    if now < window.not_before {
        return Err(ChainProblem::NotYet(rfc3339::text(window.not_before)));
    }
    Ok(())
}

/// That clients accept the algorithm of the certificate's signature.
fn check_signature(certificate: &CertificateDer<'_>) -> Result<(), ChainProblem> {
    let signed = Signed::parse(certificate).map_err(|_| ChainProblem::Unreadable)?;
    signed.refused_algorithm().map_or(Ok(()), |name| Err(ChainProblem::WeakSignature(name)))
}

/// The certificate that signed `certificate`; of several, as when a CA was renewed with its old key, one that is valid
/// now and lives longest.
pub(crate) fn best_signer<'a, 'der: 'a>(
    certificate: &CertificateDer<'_>,
    candidates: impl Iterator<Item = &'a CertificateDer<'der>>,
    now: OffsetDateTime,
) -> Option<&'a CertificateDer<'der>> {
    let (parsed, signed) = (x509::parse(certificate)?, Signed::parse(certificate).ok()?);
    let signer = |candidate: &'a CertificateDer<'der>| {
        let above = x509::parse(candidate)?;
        let named = parsed.issuer().as_raw() == above.subject().as_raw();
        let window = x509::window(&above);
        let signs = named && signed.is_by(above.public_key().raw);
        signs.then_some((candidate, (window.contains(now), window.not_after)))
    };
    let signers = candidates.filter_map(signer);
    signers.max_by_key(|(_, rank)| *rank).map(|(candidate, _)| candidate)
}

/// What is wrong where no chain leads on from `certificate`.
fn no_signer(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &[&CertificateDer<'_>],
    now: OffsetDateTime,
) -> ChainError {
    let Some(parsed) = x509::parse(certificate) else {
        return ChainError::of(certificate, ChainProblem::Unreadable);
    };
    let issuer = x509::name(parsed.issuer());
    if best_signer(certificate, others.iter(), now).is_some() {
        return ChainError::of(certificate, ChainProblem::Untrusted(issuer));
    }
    let all = others.iter().chain(roots.iter().copied()).filter(|other| *other != certificate);
    let mut named = all.filter(|other| {
        x509::parse(other).is_some_and(|other| other.subject().as_raw() == parsed.issuer().as_raw())
    });
    let Some(named) = named.next() else {
        return ChainError::of(certificate, ChainProblem::Orphan(issuer));
    };
    // No signature verifies with a key that is refused.
    match x509::parse(named).map(|named| check_key(&named)) {
        Some(Err(problem)) => ChainError::of(named, problem),
        _ => ChainError::of(certificate, ChainProblem::OtherSigner(issuer)),
    }
}

fn check_key(certificate: &X509Certificate<'_>) -> Result<(), ChainProblem> {
    match PublicKey::from_spki(certificate.public_key().raw) {
        Err(error @ (KeyError::RsaBits(_) | KeyError::Kind)) => Err(ChainProblem::Key(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a certificate names itself as its issuer, as roots do.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    x509::parse(certificate).is_some_and(|parsed| parsed.subject().as_raw() == parsed.issuer().as_raw())
}
