//! One request to a bundle endpoint.

use std::{io, sync::Arc, time::Duration};

use eastwest_ca::{SpiffeBundle, spiffe_bundle::SpiffeBundleError};
use eastwest_model::TrustDomain;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

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
    /// No connection, no TLS with the server expected, or no HTTP.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// HTTP broke off.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The request could not be made.
    #[error("HTTP: {0}")]
    Request(#[from] http::Error),
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
    /// More than 4 MiB, or broken off.
    #[error("the answer is longer than {MAX_BYTES} bytes or breaks off")]
    Body,
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
    let tls = Arc::new(tls(profile, known)?);
    let body = timeout(DEADLINE, follow(url, &tls)).await.map_err(|_| FetchError::Timeout)??;
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
            verifier::spiffe(id.clone(), roots).map_err(FetchError::Trust)
        }
    }
}

/// Follows redirects, each to be verified like the first (SPIFFE Federation §5.2.1.4).
async fn follow(url: &EndpointUrl, tls: &Arc<ClientConfig>) -> Result<Bytes, FetchError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&url, tls).await?;
        match response.status() {
            StatusCode::OK => {
                let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
                return body.map(http_body_util::Collected::to_bytes).map_err(|_| FetchError::Body);
            }
            status if status.is_redirection() => {
                let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                url = target.ok_or(FetchError::Circle)?.parse()?;
            }
            status => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::Circle)
}

async fn get(url: &EndpointUrl, tls: &Arc<ClientConfig>) -> Result<Response<Incoming>, FetchError> {
    let stream = TcpStream::connect((url.host(), url.port())).await?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(url.path())
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}
