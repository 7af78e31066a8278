//! Connections to the server, and one stream on each.

use std::{collections::HashMap, fs, io, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use crate::{mesh::Mesh, options::Proof, server::Place};

/// Where to connect to, and as whom.
pub(crate) struct Target {
    address: std::net::SocketAddr,
    /// `None`: plaintext.
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

/// One stream on a connection of its own.
pub(crate) struct Link {
    requests: SendStream<Bytes>,
    responses: RecvStream,
    buffer: BytesMut,
    connection: JoinHandle<()>,
}

/// The name that clients of Istio expect of a control plane.
const SERVER_NAME: &str = "istiod.istio-system.svc";

/// What a client trusts, and a chain and a key to show, all PEM.
fn tls_config(root: &str, shown: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.unwrap()).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(root));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(certificates(chain), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What clients of each namespace show, made once.
pub(crate) struct Proofs {
    proof: Proof,
    made: HashMap<String, (Option<Arc<ClientConfig>>, Option<String>)>,
}

impl Proofs {
    pub(crate) fn new(proof: Proof) -> Self {
        Self { proof, made: HashMap::new() }
    }

    /// Where and as whom a proxy of the namespace connects.
    pub(crate) fn target(&mut self, place: &Place, namespace: &str) -> Target {
        let proof = self.proof;
        let made = self.made.entry(namespace.to_owned());
        let (tls, token) = made.or_insert_with(|| make(place, proof, namespace)).clone();
        let address = if tls.is_some() { place.tls() } else { place.plaintext() };
        Target { address, tls, token }
    }
}

/// The TLS configuration and the token of a namespace's clients.
fn make(place: &Place, proof: Proof, namespace: &str) -> (Option<Arc<ClientConfig>>, Option<String>) {
    let account = Mesh::ACCOUNT;
    match proof {
        Proof::Plaintext => (None, None),
        Proof::Token => {
            let account = format!("{namespace}/{account}");
            let token = place.command(&["token", "--service-account", &account, "--ttl", "4h"]);
            (Some(tls_config(&place.root(), None)), Some(token.trim().to_owned()))
        }
        Proof::Mtls => {
            let out = place.dir.join(format!("svid-{namespace}"));
            let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
            place.command(&["ca", "issue", &id, "--out", &out.display().to_string()]);
            let read = |name| fs::read_to_string(out.join(name)).unwrap();
            let (chain, key) = (read("cert-chain.pem"), read("key.pem"));
            (Some(tls_config(&place.root(), Some((&chain, &key)))), None)
        }
    }
}

/// A byte stream, plain or encrypted.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

impl Target {
    async fn connect(&self) -> io::Result<Box<dyn Transport>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(SERVER_NAME.try_into().unwrap(), stream).await?)
            }
        })
    }

    fn request(&self, path: &str) -> http::Request<()> {
        let request = http::Request::post(format!("http://{}{path}", self.address));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let bearer = self.token.iter().map(|token| format!("Bearer {token}"));
        bearer.fold(request, |request, value| request.header("authorization", value)).body(()).unwrap()
    }

    /// Opens a stream. The windows are those of Istio's bootstrap for Envoy.
    pub(crate) async fn open(&self, path: &str) -> io::Result<Link> {
        let stream = self.connect().await?;
        let mut builder = client::Builder::new();
        builder.initial_window_size(64 * 1024).initial_connection_window_size(1 << 20);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let (response, requests) =
            sender.send_request(self.request(path), false).map_err(io::Error::other)?;
        let responses = response.await.map_err(io::Error::other)?.into_body();
        Ok(Link { requests, responses, buffer: BytesMut::new(), connection })
    }

    /// Opens a stream with one request, and never reads from its socket again.
    pub(crate) async fn stall(&self, path: &str, request: Vec<u8>) -> io::Result<impl Sized + use<>> {
        let stream = self.connect().await?;
        let (sender, mut connection) = client::handshake(stream).await.map_err(io::Error::other)?;
        let (response, mut requests) =
            sender.ready().await.map_err(io::Error::other)?.send_request(self.request(path), false).unwrap();
        requests.send_data(request.into(), false).unwrap();
        // One turn of the connection writes what waits.
        std::future::poll_fn(|context| {
            let _ = std::pin::Pin::new(&mut connection).poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        Ok((connection, response, requests))
    }
}

impl Link {
    /// Sends a request.
    pub(crate) fn send(&mut self, message: Vec<u8>) -> io::Result<()> {
        self.requests.send_data(message.into(), false).map_err(io::Error::other)
    }

    /// The next response, without its head.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(message) = self.whole() {
                return Ok(message);
            }
            let data = self.responses.data().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let data = data.map_err(io::Error::other)?;
            self.responses.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            self.buffer.extend_from_slice(&data);
        }
    }

    fn whole(&mut self) -> Option<Bytes> {
        let (head, rest) = self.buffer.split_first_chunk::<5>()?;
        let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).ok()?;
        if rest.len() < length {
            return None;
        }
        self.buffer.advance(5);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Some(message)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
