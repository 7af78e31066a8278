//! Status codes of refused and failed requests (CA.md C2).

use std::time::Duration;

use eastwest_ca::{CsrError, ImpersonationError, IssueError, Refusal, jwt::TokenKeyError};
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// When to retry if the queue is full.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// Why a request got no certificate or JWT-SVID.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer proved no identity.
    #[error("no identity was proven: {0}")]
    Unauthenticated(crate::AuthnError),
    /// A proof of identity that may be good cannot be checked now.
    #[error("no identity can be proven now: {0}")]
    Unproven(String),
    /// The peer asked for an identity that is not its own.
    #[error(transparent)]
    Impersonation(#[from] ImpersonationError),
    /// The certification request is invalid.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The caller may not have this identity or lifetime.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No token can be made for the audience asked for.
    #[error("audience: {0}")]
    Audience(String),
    /// Too many proofs from the peer's address have failed.
    #[error("too many proofs of identity from this address have failed")]
    TooManyFailures {
        /// When to retry.
        retry: Duration,
    },
    /// The caller asks too often.
    #[error("the caller asks too often")]
    TooManyRequests {
        /// When to retry.
        retry: Duration,
    },
    /// Too many requests, of the caller or of all, wait already.
    #[error("too many requests wait for a signature")]
    QueueFull,
    /// An internal error.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// An internal error: a token could not be signed.
    #[error(transparent)]
    Token(#[from] TokenKeyError),
    /// The ledger cannot be written, so nothing may be issued.
    #[error(transparent)]
    Unwritten(#[from] crate::ledger::Unwritten),
    /// The request took too long.
    #[error("the request was not answered in time")]
    Busy,
    /// A signing thread ended early.
    #[error("the signing worker ended early")]
    Worker,
}

impl From<crate::AuthnError> for RequestError {
    fn from(error: crate::AuthnError) -> Self {
        match error {
            crate::AuthnError::Unavailable(reason) => Self::Unproven(reason),
            error => Self::Unauthenticated(error),
        }
    }
}

/// The answer to unauthenticated peers. It gives no reason.
pub fn unauthenticated() -> Status {
    Status::unauthenticated("request authenticate failure")
}

/// ResourceExhausted with the time of the next try (google.rpc.RetryInfo), which Istio's agent obeys.
fn exhausted(message: &str, retry: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

impl From<&RequestError> for Status {
    fn from(error: &RequestError) -> Self {
        match error {
            RequestError::Unauthenticated(_)
            | RequestError::Impersonation(_)
            | RequestError::Refused(Refusal::Identity(..)) => unauthenticated(),
            RequestError::Csr(error) => Self::invalid_argument(error.to_string()),
            RequestError::Refused(error) => Self::invalid_argument(error.to_string()),
            RequestError::Audience(_) => Self::invalid_argument(error.to_string()),
            RequestError::TooManyFailures { retry } | RequestError::TooManyRequests { retry } => {
                exhausted("too many requests; try again later", *retry)
            }
            RequestError::QueueFull => exhausted("the CA is busy; try again later", QUEUE_RETRY),
            RequestError::Issue(IssueError::Constraint(violation)) => {
                Self::internal(format!("the CA could not sign: {violation}"))
            }
            RequestError::Issue(_) | RequestError::Token(_) | RequestError::Worker => {
                Self::internal("the CA could not sign")
            }
            RequestError::Unproven(_) => {
                Self::unavailable("the CA cannot check the proof of identity; try again later")
            }
            RequestError::Unwritten(_) => Self::unavailable("the CA cannot keep its ledger; try again later"),
            RequestError::Busy => Self::deadline_exceeded("the CA is busy; try again"),
        }
    }
}
