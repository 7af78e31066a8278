//! A Kubernetes API at an address of the tests, as the CA asks it.

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use eastwest_ca_server::{KubernetesApi, KubernetesApiError};
use eastwest_io::{HttpsClient, HttpsUrl, TrustedRoots};

/// The API at `url`.
#[derive(Clone)]
pub(crate) struct ApiAt {
    url: String,
    client: HttpsClient,
}

impl ApiAt {
    pub(crate) fn new(url: String, roots: PathBuf) -> Self {
        Self { url, client: HttpsClient::new(&TrustedRoots::File(roots)).unwrap() }
    }

    async fn ask(&self, path: &str, json: Option<String>) -> Result<Bytes, KubernetesApiError> {
        let url = HttpsUrl::parse(&format!("{}{path}", self.url)).unwrap();
        let answer = self.client.send(&url, json, 256 * 1024).await;
        answer.map_err(|error| KubernetesApiError::Failed { url: url.to_string(), reason: error.to_string() })
    }
}

#[tonic::async_trait]
impl KubernetesApi for ApiAt {
    async fn review(&self, review: String) -> Result<Bytes, KubernetesApiError> {
        self.ask("/apis/authentication.k8s.io/v1/tokenreviews", Some(review)).await
    }

    async fn keys(&self) -> Result<Bytes, KubernetesApiError> {
        self.ask("/openid/v1/jwks", None).await
    }
}

impl fmt::Display for ApiAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Debug for ApiAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiAt({self})")
    }
}
