//! One bounded request: over TLS, without redirects, to its end within ten seconds.

use std::{fmt, io, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest that it may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// Documents of all kinds, and key sets by their own name (RFC 7517 §8.5): the Kubernetes API gives its keys only to who
/// takes that.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// Why an address gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not a URL of a server.
    #[error("{0:?} is not an address: write for example https://issuer.example/keys")]
    Url(String),
    /// Plaintext to another machine: whoever is between could hand us keys of its own.
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
    /// What we shall be known by to the server.
    #[error("client certificate, key or token cannot be used")]
    Identity,
    /// No connection, or it broke.
    #[error("{url}: {reason}")]
    Connection {
        /// Who was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// Another answer than 200 or 201; redirects are not followed.
    #[error("{url}: answered {status}, not 200")]
    Status {
        /// Who was asked.
        url: String,
        /// The answer.
        status: u16,
    },
    /// More than allowed.
    #[error("{url}: more than the {limit} bytes allowed")]
    TooLarge {
        /// Who was asked.
        url: String,
        /// Most bytes.
        limit: usize,
    },
    /// Not within ten seconds.
    #[error("{0}: no full answer within {DEADLINE:?}")]
    TimedOut(String),
}

/// An address that may be asked: https, or http on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    text: String,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl HttpsUrl {
    /// Host and port as a header says them.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Reads an address.
    ///
    /// # Errors
    /// Anything else, user information and fragments among it.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::Url(text.chars().take(200).collect());
        let uri = Uri::from_str(text).map_err(|_| bad())?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad()),
        };
        if !tls && !is_loopback(&host) {
            return Err(FetchError::Plaintext(text.chars().take(200).collect()));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { text: text.to_owned(), tls, host, port, path })
    }
}

/// Whether an address may be asked: https, or http on loopback.
///
/// # Errors
/// It may not, and why.
pub fn check_address(text: &str) -> Result<(), FetchError> {
    HttpsUrl::parse(text).map(drop)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whom an HTTPS client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedRoots {
    /// The certificates that the system has.
    System,
    /// Those of a PEM file.
    File(PathBuf),
    /// These, in PEM.
    Pem(String),
}

/// A client for small documents.
#[derive(Clone)]
pub struct HttpsClient {
    tls: TlsConnector,
}

impl HttpsClient {
    /// A client that believes the servers that `roots` vouch for.
    ///
    /// # Errors
    /// A file without certificates. A system without any is met when something is fetched.
    pub fn new(roots: &TrustedRoots) -> Result<Self, FetchError> {
        Self::with_identity(roots, None)
    }

    /// The same, known to servers by a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// No certificates, or a key that does not go with them.
    pub fn with_identity(roots: &TrustedRoots, identity: Option<(&str, &str)>) -> Result<Self, FetchError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots.store()?);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let (Ok(chain), Ok(key)) = (chain, key) else { return Err(FetchError::Identity) };
                builder.with_client_auth_cert(chain, key).map_err(|_| FetchError::Identity)?
            }
        };
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// The body at an address.
    pub(super) async fn get(&self, url: &HttpsUrl, limit: usize) -> Result<Bytes, FetchError> {
        self.send(url, None, None, limit).await
    }

    /// What an address answers to whoever bears a token; posted to if there is JSON.
    pub(super) async fn send(
        &self,
        url: &HttpsUrl,
        bearer: Option<&str>,
        json: Option<String>,
        limit: usize,
    ) -> Result<Bytes, FetchError> {
        let mut request = match &json {
            None => Request::get(&url.path),
            Some(_) => Request::post(&url.path).header(header::CONTENT_TYPE, "application/json"),
        };
        if let Some(token) = bearer {
            let mut value =
                HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| FetchError::Identity)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .header(header::HOST, url.authority())
            .header(header::ACCEPT, ACCEPTED)
            .header(header::USER_AGENT, concat!("eastwest/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(json.unwrap_or_default())))
            .map_err(|_| FetchError::Url(url.text.clone()))?;
        let answer = timeout(DEADLINE, self.try_send(url, request, limit)).await;
        answer.unwrap_or_else(|_| Err(FetchError::TimedOut(url.to_string())))
    }

    async fn try_send(
        &self,
        url: &HttpsUrl,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Bytes, FetchError> {
        let broken = |error: &dyn fmt::Display| FetchError::Connection {
            url: url.to_string(),
            reason: error.to_string(),
        };
        let stream =
            TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| broken(&error))?;
        if !url.tls {
            return exchange(stream, url, request, limit).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|error| broken(&error))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error: io::Error| broken(&error))?;
        exchange(stream, url, request, limit).await
    }
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
            Self::Pem(text) => (
                CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
                PathBuf::from("certificate-authority-data"),
            ),
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

/// One request and its answer on a fresh connection.
async fn exchange<S>(
    stream: S,
    url: &HttpsUrl,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken =
        |error: hyper::Error| FetchError::Connection { url: url.to_string(), reason: error.to_string() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
            return Err(FetchError::Status { url: url.to_string(), status: response.status().as_u16() });
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return FetchError::TooLarge { url: url.to_string(), limit };
            }
            FetchError::Connection { url: url.to_string(), reason: error.to_string() }
        })
    };
    // The connection is driven beside the request, and dropped with it.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_may_be_asked() {
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
