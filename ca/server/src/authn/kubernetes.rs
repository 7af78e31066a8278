//! What the certificate authority asks a Kubernetes API: to review tokens, and for the keys of its tokens.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// Why a request to the API fails.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubernetesApiError {
    /// The API does not accept our credentials.
    #[error(
        "{0}: the Kubernetes API does not accept our credentials (401): the token or certificate of the kubeconfig or of \
         our pod is not valid"
    )]
    Unauthenticated(String),
    /// The API does not authorize us.
    #[error(
        "{url}: the Kubernetes API does not allow this (403): bind the ClusterRole {role} to the account of eastwest"
    )]
    Forbidden {
        /// The URL of the request.
        url: String,
        /// The role that allows it.
        role: &'static str,
    },
    /// No answer, or one that is not understood.
    #[error("{url}: {reason}")]
    Failed {
        /// The URL of the request.
        url: String,
        /// The reason.
        reason: String,
    },
}

/// A Kubernetes API that issues the tokens of service accounts. It is displayed as its address.
#[tonic::async_trait]
pub trait KubernetesApi: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Sends a TokenReview as JSON; returns the body of the answer, unparsed.
    ///
    /// # Errors
    /// See [`KubernetesApiError`].
    async fn review(&self, review: String) -> Result<Bytes, KubernetesApiError>;

    /// The JWKS of the keys that sign service accounts' tokens.
    ///
    /// # Errors
    /// See [`KubernetesApiError`].
    async fn keys(&self) -> Result<Bytes, KubernetesApiError>;
}
