//! What the certificate authority asks the API about tokens of service accounts.

use std::{fmt, time::Duration};

use eastwest_ca_server::{KubernetesApi, KubernetesApiError};
use eastwest_kubernetes::{Api, reason};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use serde::Deserialize;
use tokio::time::timeout;

/// Timeout of a request. Callers of the CA wait for a shorter time.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer in bytes.
const LIMIT: usize = 256 * 1024;

/// JSON, and key sets by their own media type (RFC 7517 §8.5): the API serves its keys only to clients that accept it.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// The path of a request, and the ClusterRole of every cluster that allows it.
type Question = (&'static str, &'static str);

const REVIEWS: Question = ("/apis/authentication.k8s.io/v1/tokenreviews", "system:auth-delegator");
const KEYS: Question = ("/openid/v1/jwks", "system:service-account-issuer-discovery");
const ISSUER: Question = ("/.well-known/openid-configuration", "system:service-account-issuer-discovery");

/// The API as the issuer of the tokens of its service accounts.
#[derive(Clone)]
pub struct TokenIssuer(Api);

impl TokenIssuer {
    /// The issuer of this cluster.
    pub fn new(api: Api) -> Self {
        Self(api)
    }

    /// The `iss` of the cluster's tokens, from its discovery document.
    ///
    /// # Errors
    /// No answer, or one without an issuer.
    pub async fn issuer(&self) -> Result<String, KubernetesApiError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
        }
        let body = self.ask(ISSUER, None).await?;
        let document: Result<Document, _> = serde_json::from_slice(&body);
        document.map(|document| document.issuer).map_err(|_| KubernetesApiError::Failed {
            url: self.url(ISSUER.0),
            reason: "it is no discovery document with an issuer".to_owned(),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.server())
    }

    async fn ask(
        &self,
        (path, role): Question,
        json: Option<String>,
    ) -> Result<bytes::Bytes, KubernetesApiError> {
        let url = self.url(path);
        let failed = |reason: String| KubernetesApiError::Failed { url: url.clone(), reason };
        let method = if json.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri(path);
        let request =
            request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, ACCEPTED);
        let body = Body::from(json.unwrap_or_default().into_bytes());
        let request = request.body(body).map_err(|error| failed(error.to_string()))?;
        let answer = async {
            let response = self.0.client().send(request).await.map_err(|error| failed(reason(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LIMIT).collect().await;
            let body = body.map_err(|error| failed(format!("the answer broke off: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        let answer = timeout(ANSWER, answer).await;
        let (status, body) =
            answer.map_err(|_| failed(format!("no answer within {} s", ANSWER.as_secs())))??;
        match status {
            StatusCode::UNAUTHORIZED => Err(KubernetesApiError::Unauthenticated(url)),
            StatusCode::FORBIDDEN => Err(KubernetesApiError::Forbidden { url, role }),
            status if status.is_success() => Ok(body),
            status => Err(failed(format!("the answer is {status}"))),
        }
    }
}

#[tonic::async_trait]
impl KubernetesApi for TokenIssuer {
    async fn review(&self, review: String) -> Result<bytes::Bytes, KubernetesApiError> {
        self.ask(REVIEWS, Some(review)).await
    }

    async fn keys(&self) -> Result<bytes::Bytes, KubernetesApiError> {
        self.ask(KEYS, None).await
    }
}

impl fmt::Display for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.server())
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenIssuer({self})")
    }
}
