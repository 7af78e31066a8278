//! The operations of the command line on a state directory. They return values; the caller prints.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use eastwest_ca::{
    AllowedNames, Authorizer, Caller, CertificateSummary, Issuer as _, Lifetimes, NewRoot, PrivateKey, Proof,
    Refusal, ServingName, VerifiedCsr, chain,
    issuer::IssueError,
    jwt::{TokenKeyError, TokenRequest},
    key::PrivateKeyError,
    ledger::{Event, Issued, Requester},
};
use eastwest_identity::{SpiffeId, TrustDomain};
use eastwest_io::files;
use serde::Serialize;
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    ledger::{Journal, LedgerConfig, LedgerError},
    trust::{
        latest_expiry::Signer,
        root_files,
        state_dir::{StateDir, TOKEN_ISSUER},
        state_error::{StateError, io_error},
        storage::CaStorage as _,
    },
};

/// Why an operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The identity or life asked for is not granted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Signing failed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The ledger cannot be written, so nothing is issued.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// No token could be made.
    #[error(transparent)]
    Token(#[from] TokenKeyError),
}

/// A summary of a CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Where it is kept.
    pub state_dir: PathBuf,
    /// Its roots.
    pub roots: Vec<CertificateSummary>,
    /// `kid` of the token key.
    pub token_key_id: String,
}

/// Creates a CA in `dir`, or completes an unfinished one. With `import`, it uses that key.
///
/// # Errors
/// A server uses the directory, it cannot be used, it has a CA of another trust domain, or it has a key already and another
/// is to be imported.
pub fn init(
    dir: &Path,
    new: &NewRoot,
    import: Option<&PrivateKey>,
    now: OffsetDateTime,
) -> Result<Summary, StateError> {
    let state = StateDir::open(dir)?;
    let _lock = state.lock()?;
    let wanted = &new.trust_domain;
    if let Some(found) = trust_domain(dir, now).filter(|found| found != wanted) {
        return Err(StateError::OtherTrustDomain { place: dir.into(), found, wanted: wanted.clone() });
    }
    import.map(|key| state.import_key(key)).transpose()?;
    state.load_or_create(new, now)?;
    show(dir, now)
}

/// Describes the CA in `dir`.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn show(dir: &Path, now: OffsetDateTime) -> Result<Summary, StateError> {
    let state = StateDir::open_existing(dir)?;
    let material = state.load(now)?;
    let roots = material.roots.certificates().filter_map(CertificateSummary::of).collect();
    let token_key_id = state.token_key()?.id().to_owned();
    Ok(Summary { state_dir: dir.to_owned(), roots, token_key_id })
}

/// The roots of the CA in `dir` as PEM.
///
/// # Errors
/// There is no CA, or it cannot be used.
pub fn bundle(dir: &Path, now: OffsetDateTime) -> Result<String, StateError> {
    Ok(StateDir::open_existing(dir)?.load(now)?.roots.pem())
}

/// The trust domain that the root in `dir` names, if there is a CA and its root names one in full.
pub fn trust_domain(dir: &Path, now: OffsetDateTime) -> Option<TrustDomain> {
    let material = StateDir::open_existing(dir).ok()?.load(now).ok()?;
    root_files::trust_domain(material.issuer.root())
}

/// A key and its certificate. Not to be shown.
pub struct IssuedKey {
    /// Leaf first, then intermediates.
    pub certificate_chain_pem: String,
    /// PKCS#8.
    pub private_key_pem: Zeroizing<String>,
    /// What the peers of its holder must trust.
    pub roots_pem: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// End of its life.
    pub not_after: OffsetDateTime,
}

impl IssuedKey {
    /// Writes `cert-chain.pem`, `key.pem` (mode 0600) and `root-cert.pem` into `dir`, creating it if absent.
    ///
    /// # Errors
    /// The system refused.
    pub fn write(&self, dir: &Path) -> Result<[PathBuf; 3], StateError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(io_error("create the directory", dir))?;
        let write = |name: &str, content: &str, mode| {
            let path = dir.join(name);
            files::replace(&path, content.as_bytes(), mode).map_err(io_error("write", &path))?;
            Ok(path)
        };
        Ok([
            write("cert-chain.pem", &self.certificate_chain_pem, files::PUBLIC)?,
            write("key.pem", &self.private_key_pem, files::SECRET)?,
            write("root-cert.pem", &self.roots_pem, files::PUBLIC)?,
        ])
    }
}

/// Creates a key and issues a certificate for `identity` with the CA in `dir`, for `lifetime` or the default, with `names`
/// beside the identity. The record is in the ledger when this returns.
///
/// # Errors
/// The directory or its ledger cannot be used, the CA is plugged in, or identity or life are beyond what is granted: the
/// identity is of another trust domain than the root.
pub fn issue(
    dir: &Path,
    (identity, names): (&SpiffeId, Vec<ServingName>),
    lifetime: Option<Duration>,
    lifetimes: Lifetimes,
    now: OffsetDateTime,
) -> Result<IssuedKey, OperationError> {
    let state = StateDir::open_existing(dir)?;
    state.refuse_foreign_anchor().map_err(|error| match error {
        StateError::ForeignAnchor { .. } => StateError::PluggedIn(dir.to_owned()),
        error => error,
    })?;
    let material = state.load(now)?;
    // A root whose trust domain is too long to be named does not tell.
    let own = root_files::trust_domain(material.issuer.root()).unwrap_or_else(|| identity.trust_domain());
    let caller = Caller::new(identity.clone(), Proof::Operator);
    let seconds = lifetime.map_or(0, |life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
    let authorizer = Authorizer::new(own, lifetimes).allowing(AllowedNames::any());
    let grant = authorizer.authorize(&caller, seconds)?.with_names(names)?;
    let key = PrivateKey::generate()?;
    let csr = VerifiedCsr::of(&key)?;
    let signer = Signer::new(material.issuer, material.latest_expiry);
    let leaf = signer.issue(&grant, &csr, now)?;
    let record = Event::Issued(Box::new(Issued::new(&leaf, &grant, &csr, Requester::caller(&caller, None))));
    Journal::open(&LedgerConfig::of(dir))?.commit(&[record], signer.local(), now)?;
    let mut elements = chain::elements(&leaf, &signer, &material.roots);
    let roots_pem = elements.pop().unwrap_or_default();
    Ok(IssuedKey {
        certificate_chain_pem: elements.concat(),
        private_key_pem: key.to_pem(),
        roots_pem,
        serial: leaf.serial,
        not_after: leaf.not_after,
    })
}

/// Signs a service-account token with the token key in `dir`, which `ca init` or a server has made.
///
/// # Errors
/// There is none, the directory cannot be used, or the names are no service account.
pub fn token(
    dir: &Path,
    namespace: &str,
    service_account: &str,
    audience: &str,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<String, OperationError> {
    let key = StateDir::open_existing(dir)?.existing_token_key()?;
    let request = TokenRequest { issuer: TOKEN_ISSUER, namespace, service_account, audience, lifetime };
    Ok(key.mint(request, now)?)
}
