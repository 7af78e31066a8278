//! Fetches a bundle from an endpoint, following redirects.

use std::time::Duration;

use eastwest_ca::{SpiffeBundle, spiffe_bundle::SpiffeBundleError};
use eastwest_identity::TrustDomain;
use eastwest_io::{HttpsClient, https};
use http::{StatusCode, header};
use hyper::body::Bytes;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::timeout;

use super::{EndpointUrl, Foreign, Profile, RelationshipError, verifier};

/// Longest time for a bundle, redirects included.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longest document in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Most redirects.
const MAX_REDIRECTS: usize = 3;

/// Why an endpoint gave no bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is nothing to verify it by.
    #[error("cannot verify the endpoint: {0}")]
    Trust(String),
    /// No bundle of the domain of its SPIFFE ID.
    #[error(
        "the endpoint's SPIFFE ID is of {0}, whose bundle is not known; give one with bundle=FILE, or --federate {0} too"
    )]
    NoBundle(TrustDomain),
    /// No connection, not the server expected, no HTTP, or more than 4 MiB.
    #[error(transparent)]
    Https(#[from] https::FetchError),
    /// Too slow.
    #[error("no answer within {DEADLINE:?}")]
    Timeout,
    /// Another status than 200.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// It leads where no bundle may come from.
    #[error("it redirects: {0}")]
    Redirect(#[from] RelationshipError),
    /// It leads in circles, or nowhere.
    #[error("it redirects too often, or without saying where")]
    Circle,
    /// Not UTF-8.
    #[error("the answer is not UTF-8")]
    Utf8,
    /// Not a bundle.
    #[error(transparent)]
    Bundle(#[from] SpiffeBundleError),
}

/// Gets the bundle at `url`; `known` verifies endpoints with a SPIFFE ID.
pub(super) async fn fetch(
    url: &EndpointUrl,
    profile: &Profile,
    known: &Foreign,
) -> Result<SpiffeBundle, FetchError> {
    let client = HttpsClient::with_tls(tls(profile, known)?);
    let body = timeout(DEADLINE, follow(url, &client)).await.map_err(|_| FetchError::Timeout)??;
    let text = std::str::from_utf8(&body).map_err(|_| FetchError::Utf8)?;
    Ok(SpiffeBundle::from_json(text)?)
}

fn tls(profile: &Profile, known: &Foreign) -> Result<ClientConfig, FetchError> {
    match profile {
        Profile::Web { roots } => verifier::web(roots.as_deref()).map_err(FetchError::Trust),
        Profile::Spiffe(id) => {
            let domain = id.trust_domain();
            let roots = known.get(&domain).and_then(SpiffeBundle::roots);
            let roots = roots.ok_or(FetchError::NoBundle(domain))?;
            Ok(verifier::spiffe(id.clone(), roots))
        }
    }
}

/// Follows redirects, each to be verified like the first (SPIFFE Federation §5.2.1.4).
async fn follow(url: &EndpointUrl, client: &HttpsClient) -> Result<Bytes, FetchError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let response = client.request(url.address(), None).await?;
        match response.status() {
            StatusCode::OK => return Ok(https::body(url.address(), response, MAX_BYTES).await?),
            status if status.is_redirection() => {
                let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                url = target.ok_or(FetchError::Circle)?.parse()?;
            }
            status => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::Circle)
}
