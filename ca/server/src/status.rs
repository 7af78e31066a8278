//! What a refused or failed request answers (ca.md section 1, "Status codes").

use eastwest_ca::{CsrError, IssueError, Refusal};
use thiserror::Error;
use tonic::Status;

/// Why a request got no certificate, by who is to blame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer proved no identity.
    #[error("no identity was proven: {0}")]
    Unauthenticated(#[from] crate::AuthnError),
    /// The peer asked for an identity that is not its own.
    #[error("another identity than the caller's was asked for")]
    Impersonation,
    /// The caller's request is at fault.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The caller may not have what it asks for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// We are at fault.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// We are too busy.
    #[error("too many requests wait for a signature")]
    Busy,
    /// A worker of ours went away.
    #[error("the signing worker ended early")]
    Worker,
}

/// The one answer to whoever proves no identity: it tells nothing.
pub fn unauthenticated() -> Status {
    Status::unauthenticated("request authenticate failure")
}

impl From<&RequestError> for Status {
    fn from(error: &RequestError) -> Self {
        match error {
            RequestError::Unauthenticated(_)
            | RequestError::Impersonation
            | RequestError::Refused(Refusal::Identity(..)) => unauthenticated(),
            RequestError::Csr(error) => Self::invalid_argument(error.to_string()),
            RequestError::Refused(error) => Self::invalid_argument(error.to_string()),
            RequestError::Issue(_) | RequestError::Worker => Self::internal("the CA could not sign"),
            RequestError::Busy => Self::deadline_exceeded("the CA is busy; try again"),
        }
    }
}
