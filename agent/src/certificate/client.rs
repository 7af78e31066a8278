//! The client of the CA. One request for a certificate: key, CSR, credentials, call, check (CA.md C1, C31
//! and C32).

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use eastwest_ca::ServingName;
use eastwest_identity::SpiffeId;
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use super::{
    key::WorkloadKey,
    rotation::{Issue, WallClock},
    svid::{AnswerError, Expected, Svid},
    tls::{self, CaRootError},
};
use crate::config::{ControlPlane, Settings};

/// Time for one attempt: connection, handshake and call.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a silent control plane is pinged.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why a request failed, each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("cannot use the token {path}: {reason}; --token-file must name a service-account token")]
    Token { path: String, reason: String },
    #[error(transparent)]
    CaRoot(#[from] CaRootError),
    #[error(
        "cannot connect to the control plane at {address}: {source}; is it running, and is {flag} right?"
    )]
    Connect { address: String, source: io::Error, flag: &'static str },
    #[error("no TLS with the control plane at {address}: {source}{remedy}")]
    Handshake { address: String, source: io::Error, remedy: String },
    #[error("no answer from the control plane at {address} within {DEADLINE:?}")]
    Timeout { address: String },
    #[error("the CA refused: {}: {}{}", .0.code(), .0.message(), remedy(.0.code()))]
    Refused(Box<Status>),
    #[error("the CA's answer is refused: {0}")]
    Answer(#[from] AnswerError),
    #[error("cannot make a key and request: {0}")]
    Key(#[from] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where the token is.
pub enum TokenSource {
    /// In a file, which is read at each use.
    File(PathBuf),
    /// The token itself.
    Given(Zeroizing<String>),
}

/// The CA, the certificate to request, and the proof of identity.
pub(crate) struct CaClientConfig {
    pub(crate) control_plane: ControlPlane,
    /// The identity that the CSR names.
    pub(crate) identity: SpiffeId,
    /// DNS names and addresses to have beside the identity.
    pub(crate) names: Vec<ServingName>,
    /// Whether the CA may choose another trust domain.
    pub(crate) any_trust_domain: bool,
    /// Trust anchor for the control plane, read for each connection.
    pub(crate) ca_root: PathBuf,
    pub(crate) token: TokenSource,
    pub(crate) cluster_id: String,
    /// Requested lifetime.
    pub(crate) cert_ttl: Duration,
}

impl From<&Settings> for CaClientConfig {
    fn from(settings: &Settings) -> Self {
        let config = &settings.config;
        Self {
            control_plane: settings.control_plane.clone(),
            identity: settings.identity.clone(),
            names: Vec::new(),
            any_trust_domain: !settings.trust_domain_fixed,
            ca_root: config.ca_root.clone(),
            token: TokenSource::File(config.token_file.clone()),
            cluster_id: config.cluster_id.clone(),
            cert_ttl: config.cert_ttl,
        }
    }
}

/// A client of the CA and the other services of a control plane.
pub(crate) struct CaClient {
    config: CaClientConfig,
    clock: WallClock,
}

impl CaClient {
    pub(crate) fn new(config: CaClientConfig, clock: WallClock) -> Self {
        Self { config, clock }
    }

    async fn call(&self, current: Option<&Svid>, attempt: u32) -> Result<Svid, IssueError> {
        let key = WorkloadKey::generate()?;
        let csr = key.signing_request(&self.config.identity, &self.config.names)?;
        let validity_duration = i64::try_from(self.config.cert_ttl.as_secs()).unwrap_or(i64::MAX);
        let message = IstioCertificateRequest { csr, validity_duration, metadata: None };
        let (channel, token) = self.open(current, attempt).await?;
        let mut request = self.request(message, token);
        request.set_timeout(DEADLINE);
        let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await;
        let answer = answer.map_err(refused)?;
        let CaClientConfig { identity, names, any_trust_domain, .. } = &self.config;
        let expected = Expected { identity, names, any_trust_domain: *any_trust_domain };
        Ok(Svid::accept(&answer.into_inner().cert_chain, &key, &expected, (self.clock)())?)
    }

    /// A connection to the control plane that presents the certificate held, and the token for requests on it.
    pub(crate) async fn open(
        &self,
        current: Option<&Svid>,
        attempt: u32,
    ) -> Result<(Channel, Option<Token>), IssueError> {
        let opening = async {
            let credentials = self.credentials(current, attempt)?;
            let roots = tls::control_plane_roots(&self.config.ca_root, current)?;
            let stream = self.connect(tls::client_config(&roots, credentials.certificate)?).await?;
            Ok((self.channel(stream).await?, credentials.token))
        };
        let address = self.config.control_plane.to_string();
        tokio::time::timeout(DEADLINE, opening).await.unwrap_or(Err(IssueError::Timeout { address }))
    }

    /// The token and, for a renewal, the certificate held while it is valid. Every second attempt omits the
    /// certificate, because a CA that lost its state closes the connection when it sees one that it does not know.
    fn credentials<'a>(
        &self,
        current: Option<&'a Svid>,
        attempt: u32,
    ) -> Result<Credentials<'a>, IssueError> {
        let certificate = current.filter(|svid| !svid.expired((self.clock)()));
        match (read_token(&self.config.token), certificate) {
            (Ok(token), certificate) => {
                let certificate = certificate.filter(|_| attempt.is_multiple_of(2));
                Ok(Credentials { token: Some(token), certificate })
            }
            (Err(error), Some(certificate)) => {
                tracing::info!("{error}; renewing with the certificate alone");
                Ok(Credentials { token: None, certificate: Some(certificate) })
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn connect(&self, config: rustls::ClientConfig) -> Result<TlsStream<TcpStream>, IssueError> {
        let peer = &self.config.control_plane;
        let address = peer.to_string();
        let tcp = match TcpStream::connect((peer.host.as_str(), peer.port)).await {
            Ok(tcp) => tcp,
            Err(source) => return Err(IssueError::Connect { address, source, flag: peer.flag }),
        };
        let handshake = TlsConnector::from(Arc::new(config)).connect(peer.name.clone(), tcp);
        handshake.await.map_err(|source| IssueError::Handshake {
            address,
            remedy: handshake_remedy(&source, peer.flag),
            source,
        })
    }

    /// A channel over that one connection.
    async fn channel(&self, stream: TlsStream<TcpStream>) -> Result<Channel, IssueError> {
        let address = &self.config.control_plane;
        let uri = |scheme| format!("{scheme}://{address}");
        let unusable = |error: &dyn std::fmt::Display| {
            IssueError::Refused(Box::new(Status::internal(format!("cannot use {address}: {error}"))))
        };
        let endpoint = Endpoint::from_shared(uri("http")).map_err(|error| unusable(&error))?;
        let origin = uri("https").parse().map_err(|error: http::uri::InvalidUri| unusable(&error))?;
        let stream = Mutex::new(Some(TokioIo::new(stream)));
        let once = tower::service_fn(move |_| {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_while_idle(true);
        let connected = endpoint.origin(origin).connect_with_connector(once).await;
        connected.map_err(|error| IssueError::Refused(Box::new(Status::from_error(error.into()))))
    }

    /// A request with the token and the name of the cluster.
    pub(crate) fn request<T>(&self, message: T, token: Option<Token>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(Token(token)) = token {
            request.metadata_mut().insert("authorization", token);
        }
        if let Ok(cluster) = self.config.cluster_id.parse() {
            request.metadata_mut().insert("clusterid", cluster);
        }
        request
    }
}

impl Issue for CaClient {
    type Error = IssueError;

    fn is_denial(error: &IssueError) -> bool {
        matches!(error, IssueError::Refused(status)
            if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied))
    }

    async fn issue(&self, current: Option<&Svid>, attempt: u32) -> Result<Svid, IssueError> {
        let address = self.config.control_plane.to_string();
        let call = tokio::time::timeout(DEADLINE, self.call(current, attempt));
        call.await.unwrap_or(Err(IssueError::Timeout { address }))
    }
}

struct Credentials<'a> {
    token: Option<Token>,
    certificate: Option<&'a Svid>,
}

/// The value of the `authorization` header.
pub(crate) struct Token(MetadataValue<Ascii>);

/// Reads the token. It is read at each use because it is replaced long before it expires.
fn read_token(source: &TokenSource) -> Result<Token, IssueError> {
    let error = |reason: &str| {
        let path = match source {
            TokenSource::File(path) => path.display().to_string(),
            TokenSource::Given(_) => "that was given".to_owned(),
        };
        IssueError::Token { path, reason: reason.to_owned() }
    };
    let text = match source {
        TokenSource::File(path) => read_secret(path).map_err(|cause| error(&cause.to_string()))?,
        TokenSource::Given(text) => text.clone(),
    };
    if text.trim().is_empty() {
        return Err(error("it is empty"));
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", text.trim())
        .parse()
        .map_err(|_| error("it is not a token in one line of ASCII"))?;
    value.set_sensitive(true);
    Ok(Token(value))
}

fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    std::fs::read_to_string(path).map(Zeroizing::new)
}

fn refused(status: Status) -> IssueError {
    IssueError::Refused(Box::new(status))
}

/// What to do about a failed handshake, to be appended to a message.
fn handshake_remedy(error: &io::Error, flag: &str) -> String {
    use rustls::{CertificateError, Error};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        // A root of the same name with another key leads to the latter ones.
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )) => {
            "; its certificate does not lead to --ca-root: is that the root of this control plane?".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!("; name it as its certificate does, with {flag}-name if need be"),
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "; do the clocks of both sides agree?".to_owned(),
        Some(Error::InvalidMessage(_)) => "; is that its TLS port?".to_owned(),
        _ => String::new(),
    }
}

/// What to do about a refusal, to be appended to a message.
fn remedy(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => {
            "; is the token fresh, for this namespace and service account, and from an issuer that the control plane trusts?"
        }
        Code::Unimplemented => "; is that the address of a certificate authority?",
        _ => "",
    }
}

/// The time of day.
pub(crate) fn system_clock() -> WallClock {
    Arc::new(SystemTime::now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::AgentConfig, tests::ca::TestCa};

    const HOUR: Duration = Duration::from_secs(3600);

    /// What is presented, as (token, certificate), at attempt 0 and 1 of a renewal, an hour after the
    /// certificate of this life was issued; `None` for an error.
    fn presented(life: Duration, token: bool) -> [Option<(bool, bool)>; 2] {
        let dir = tempfile::tempdir().unwrap();
        let config = AgentConfig {
            control_plane: "127.0.0.1:15012".into(),
            token_file: dir.path().join("token"),
            namespace: "shop".into(),
            pod: "reviews-0".into(),
            ips: vec!["10.0.0.7".into()],
            ..AgentConfig::default()
        };
        if token {
            std::fs::write(&config.token_file, "token").unwrap();
        }
        let issued = SystemTime::now();
        let svid = TestCa::new("root").svid(issued, life);
        let clock: WallClock = Arc::new(move || issued + HOUR);
        let client = CaClient::new(CaClientConfig::from(&Settings::parse(config).unwrap()), clock);
        [0, 1].map(|attempt| {
            let credentials = client.credentials(Some(&svid), attempt).ok()?;
            Some((credentials.token.is_some(), credentials.certificate.is_some()))
        })
    }

    #[test]
    fn a_valid_certificate_is_presented_with_the_token_and_every_second_time_not() {
        assert_eq!(presented(2 * HOUR, true), [Some((true, true)), Some((true, false))]);
    }

    #[test]
    fn a_valid_certificate_stands_alone_when_there_is_no_token() {
        assert_eq!(presented(2 * HOUR, false), [Some((false, true)); 2]);
    }

    #[test]
    fn an_expired_certificate_is_never_presented() {
        assert_eq!(presented(HOUR / 2, true), [Some((true, false)); 2]);
        assert_eq!(presented(HOUR / 2, false), [None; 2]);
    }

    #[test]
    fn the_token_is_trimmed_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, " ey.to.ken\n").unwrap();
        let Token(value) = read_token(&TokenSource::File(path.clone())).unwrap();
        assert_eq!(value, "Bearer ey.to.ken");
        assert!(!format!("{value:?}").contains("ey.to.ken"));
        std::fs::write(&path, "two\nlines").unwrap();
        let error = read_token(&TokenSource::File(path.clone())).err().unwrap().to_string();
        assert!(error.contains("--token-file") && !error.contains("two"), "{error}");
    }
}
