//! A client for small documents over HTTPS. It follows no redirects and waits ten seconds for a whole document.
//! Connections are kept for the next request.

use std::{error::Error as _, fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use tokio::time::timeout;

use crate::tls;

/// Longest time for a whole document.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long an idle connection is kept, and how many of one server.
const IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 64;

/// JSON, and key sets by their own media type (RFC 7517 §8.5): the Kubernetes API serves its keys only to clients that
/// accept it.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// Why a document could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not a URL of a server.
    #[error("{0:?} is not an address: write for example https://issuer.example/keys")]
    Url(String),
    /// Plaintext to another machine: anybody on the path could insert keys.
    #[error("{0:?}: plain http is only for loopback; use https")]
    Plaintext(String),
    /// A file of roots that cannot be used.
    #[error("{}: {reason}", path.display())]
    Roots {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("{url}: {reason}")]
    Connection {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// Another status than 200 or 201; redirects are not followed.
    #[error("{url}: answered {status}, not 200")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// The document is larger than allowed.
    #[error("{url}: more than the {limit} bytes allowed")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not within ten seconds.
    #[error("{0}: no full answer within {DEADLINE:?}")]
    TimedOut(String),
}

/// An address that may be fetched: https, or http on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl(Uri);

impl HttpsUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// Any other scheme, and user information.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::Url(text.chars().take(200).collect());
        let uri = Uri::from_str(text).map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Ok(Self(uri)),
            Some(scheme) if *scheme == Scheme::HTTP && is_loopback(authority.host()) => Ok(Self(uri)),
            Some(scheme) if *scheme == Scheme::HTTP => {
                Err(FetchError::Plaintext(text.chars().take(200).collect()))
            }
            _ => Err(bad()),
        }
    }
}

/// Checks that an address may be fetched: https, or http on loopback.
///
/// # Errors
/// The address may not be fetched, and why.
pub fn check_address(text: &str) -> Result<(), FetchError> {
    HttpsUrl::parse(text).map(drop)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The CAs that an HTTPS client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedRoots {
    /// Those of the system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// A client for small documents.
#[derive(Clone)]
pub struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpsClient {
    /// A client that trusts servers with a certificate that leads to `roots`.
    ///
    /// # Errors
    /// A file without certificates. If the system has none, the first fetch fails.
    pub fn new(roots: &TrustedRoots) -> Result<Self, FetchError> {
        let builder = tls::client_builder().with_root_certificates(roots.store()?);
        Ok(Self::with_tls(builder.with_no_client_auth()))
    }

    /// A client with this TLS configuration.
    pub fn with_tls(tls: ClientConfig) -> Self {
        // `HttpsUrl` decides which addresses are fetched in plaintext.
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
        Self(builder.build(connector))
    }

    /// The document at an address, of at most `limit` bytes.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: &HttpsUrl, limit: usize) -> Result<Bytes, FetchError> {
        self.send(url, None, limit).await
    }

    /// The document that an address answers, of at most `limit` bytes. With `json` the request is a POST of that body.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn send(
        &self,
        url: &HttpsUrl,
        json: Option<String>,
        limit: usize,
    ) -> Result<Bytes, FetchError> {
        let answer = timeout(DEADLINE, async {
            let response = self.request(url, json).await?;
            match response.status() {
                StatusCode::OK | StatusCode::CREATED => body(url, response, limit).await,
                status => Err(FetchError::Status { url: url.to_string(), status: status.as_u16() }),
            }
        });
        answer.await.unwrap_or_else(|_| Err(FetchError::TimedOut(url.to_string())))
    }

    /// The response of an address, whatever its status. There is no time limit.
    ///
    /// # Errors
    /// No connection.
    pub async fn request(
        &self,
        url: &HttpsUrl,
        json: Option<String>,
    ) -> Result<Response<Incoming>, FetchError> {
        let request = match &json {
            None => Request::get(&url.0),
            Some(_) => Request::post(&url.0).header(header::CONTENT_TYPE, "application/json"),
        };
        let request = request
            .header(header::ACCEPT, ACCEPTED)
            .header(header::USER_AGENT, concat!("eastwest/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(json.unwrap_or_default())))
            .map_err(|_| FetchError::Url(url.to_string()))?;
        self.0.request(request).await.map_err(|error| connection_error(url, &error))
    }
}

/// The whole body of a response, of at most `limit` bytes.
///
/// # Errors
/// The connection broke, or the body is larger.
pub async fn body(url: &HttpsUrl, response: Response<Incoming>, limit: usize) -> Result<Bytes, FetchError> {
    let body = Limited::new(response.into_body(), limit).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return FetchError::TooLarge { url: url.to_string(), limit };
        }
        FetchError::Connection { url: url.to_string(), reason: error.to_string() }
    })
}

/// The innermost cause: what wraps it only names the layer.
fn connection_error(url: &HttpsUrl, error: &legacy::Error) -> FetchError {
    let mut reason = error.source();
    while let Some(deeper) = reason.and_then(std::error::Error::source) {
        reason = Some(deeper);
    }
    let reason = reason.map_or_else(|| error.to_string(), ToString::to_string);
    FetchError::Connection { url: url.to_string(), reason }
}

impl TrustedRoots {
    fn store(&self) -> Result<RootCertStore, FetchError> {
        let mut store = RootCertStore::empty();
        let (certificates, path) = match self {
            Self::System => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                return Ok(store);
            }
            Self::File(path) => {
                let read = CertificateDer::pem_file_iter(path);
                (read.and_then(Iterator::collect::<Result<Vec<_>, _>>), path.clone())
            }
        };
        let failed = |reason: String| FetchError::Roots { path: path.clone(), reason };
        let certificates = certificates.map_err(|error| failed(error.to_string()))?;
        match store.add_parsable_certificates(certificates) {
            (0, _) => Err(failed("it has no certificate in PEM".to_owned())),
            _ => Ok(store),
        }
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpsClient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_may_be_fetched() {
        for good in [
            "https://issuer.example/keys",
            "https://issuer.example:8443",
            "https://[::1]:6443/openid/v1/jwks?x=1",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]/keys",
        ] {
            let url = HttpsUrl::parse(good);
            assert!(url.is_ok(), "{good}: {url:?}");
        }
        for bad in [
            "",
            "issuer.example",
            "/keys",
            "ftp://a/b",
            "https://",
            "https://u:p@a/b",
            "file:///keys",
            "https://a b",
        ] {
            assert!(matches!(HttpsUrl::parse(bad), Err(FetchError::Url(_))), "{bad:?}");
        }
        for bad in [
            "http://issuer.example/keys",
            "http://10.0.0.1/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.example/",
        ] {
            assert!(matches!(HttpsUrl::parse(bad), Err(FetchError::Plaintext(_))), "{bad:?}");
        }
    }
}
