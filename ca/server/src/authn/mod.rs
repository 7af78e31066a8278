//! Who a peer is. Each method of proof is a file; they are tried one after the other.

pub(crate) mod binding;
mod client_certificate;
pub mod impersonation;
pub mod keys;
pub mod kubernetes;
pub mod oidc;
pub mod peer_authenticator;
pub mod proofs;
mod review;
mod token;

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use eastwest_ca::{
    Caller,
    jwt::TokenError,
    oidc::{JobError, ReplayError},
    peer::PeerError,
    pods::BindingError,
    review::ReviewError,
};
use eastwest_identity::SpiffeId;
use eastwest_io::PeerConnection;
use thiserror::Error;
use time::OffsetDateTime;
use tonic::{Extensions, metadata::MetadataMap};

use self::token::BearerToken;

/// The longest reason in a log, in bytes: parts of it come from unauthenticated peers.
const MAX_REASON: usize = 512;

/// The credentials of a request. Not to be logged: the headers hold a token.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Headers of the request.
    pub metadata: &'a MetadataMap,
    /// Holds the request's [`PeerConnection`].
    pub extensions: &'a Extensions,
}

impl<'a> Credentials<'a> {
    /// The connection, if it came through one of our ports and is encrypted. A plaintext connection proves no identity,
    /// whatever its headers hold (CA.md A23).
    fn encrypted(&self) -> Result<&'a PeerConnection, AuthnError> {
        self.extensions.get::<PeerConnection>().filter(|peer| peer.tls).ok_or(AuthnError::Plaintext)
    }
}

/// The credentials of an encrypted request, as each [`Method`] looks at them.
struct Evidence<'a> {
    connection: &'a PeerConnection,
    metadata: &'a MetadataMap,
    token: OnceLock<Result<BearerToken<'a>, AuthnError>>,
}

impl<'a> Evidence<'a> {
    fn new(connection: &'a PeerConnection, metadata: &'a MetadataMap) -> Self {
        Self { connection, metadata, token: OnceLock::new() }
    }

    /// The bearer token. It is parsed once, at the first call.
    fn token(&self) -> Result<&BearerToken<'a>, AuthnError> {
        self.token.get_or_init(|| BearerToken::parse(self.metadata)).as_ref().map_err(Clone::clone)
    }
}

/// Why authentication failed. For our log; the peer gets no reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthnError {
    /// The connection is not encrypted.
    #[error("the connection is not encrypted")]
    Plaintext,
    /// A `clusterid` header that is not ours (CA.md A16).
    #[error("the clusterid header must be absent, empty or {expected:?}, once")]
    Cluster {
        /// Our own.
        expected: String,
    },
    /// A client certificate that is not accepted, or none.
    #[error(transparent)]
    ClientCertificate(#[from] PeerError),
    /// Not exactly one `authorization: Bearer` header.
    #[error("{0}")]
    Header(&'static str),
    /// A token that is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The issuer is trusted, but its keys could not be read so far.
    #[error("the keys of the token's issuer {0:?} are not known yet")]
    NoKeys(String),
    /// The pod of the token is not accepted.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The Kubernetes API could not be asked, or must not be asked.
    #[error("the Kubernetes API was not heard about the token: {0}")]
    Review(String),
    /// The Kubernetes API does not accept the token.
    #[error(transparent)]
    Reviewed(#[from] ReviewError),
    /// No rule matches the job.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The job's token was used before.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A certificate of a CI job, which cannot be renewed.
    #[error("the certificate of {0}, an identity of OIDC rules, does not renew itself; a new token does")]
    JobCertificate(SpiffeId),
    /// A proof that may be good cannot be checked now.
    #[error("{0}")]
    Unavailable(String),
    /// All methods failed.
    #[error("{0}")]
    AllFailed(String),
}

/// One method of proving an identity.
#[tonic::async_trait]
trait Method: Send + Sync + 'static {
    /// The identity that `evidence` proves at `now` by this method.
    ///
    /// # Errors
    /// Why it proves none; never reveals a secret.
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError>;
}

/// Tells who a peer is, by several methods in a fixed order. The first one that succeeds decides, so a bad certificate
/// beside a good token does no harm (CA.md A22).
pub(crate) struct Authenticator {
    cluster_id: String,
    methods: Vec<Arc<dyn Method>>,
}

impl Authenticator {
    /// Tries `methods` in this order for peers of the cluster `cluster_id`.
    fn new(cluster_id: String, methods: Vec<Arc<dyn Method>>) -> Self {
        Self { cluster_id, methods }
    }

    /// A peer that names no cluster is accepted; one that names another, or two, is refused (CA.md C17).
    fn check_cluster(&self, metadata: &MetadataMap) -> Result<(), AuthnError> {
        let mut named = metadata.get_all("clusterid").iter();
        let ours = match (named.next(), named.next()) {
            (None, _) => true,
            (Some(id), None) => id.is_empty() || id.as_bytes() == self.cluster_id.as_bytes(),
            (Some(_), Some(_)) => false,
        };
        ours.then_some(()).ok_or_else(|| AuthnError::Cluster { expected: self.cluster_id.clone() })
    }

    /// The identity of the peer at `now`.
    ///
    /// # Errors
    /// Why the credentials prove no identity; never reveals a secret.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthnError> {
        let peer = credentials.encrypted()?;
        self.check_cluster(credentials.metadata)?;
        let evidence = Evidence::new(peer, credentials.metadata);
        let mut reasons = peer.remote.map_or_else(String::new, |remote| format!("peer {remote}"));
        let mut unavailable = false;
        for method in &self.methods {
            match method.authenticate(&evidence, now).await {
                Ok(caller) => return Ok(caller),
                Err(error) => {
                    unavailable |= matches!(error, AuthnError::Unavailable(_));
                    let separator = if reasons.is_empty() { "" } else { "; " };
                    let _ = write!(reasons, "{separator}{error}"); // writing to a String cannot fail
                }
            }
        }
        reasons.truncate(reasons.floor_char_boundary(MAX_REASON));
        Err(if unavailable { AuthnError::Unavailable(reasons) } else { AuthnError::AllFailed(reasons) })
    }
}
