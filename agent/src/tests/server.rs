//! A control plane over TLS on loopback: the certificate service, with a behaviour that tests exchange, and
//! ADS without resources.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use eastwest_proto::{
    eastwest::v1::{
        CreateJwtSvidRequest, CreateJwtSvidResponse, FollowTrustBundlesRequest, TrustBundles,
        workload_identity_server::{WorkloadIdentity, WorkloadIdentityServer},
    },
    istio::v1::auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
};
use eastwest_xds::{ResourceSet, TypeUrl, View};
use eastwest_xds_server::{AuthenticatedClient, AuthorizedStream, Node, StreamAuthorizer, XdsServer};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::Connected},
};

use super::ca::TestCa;

/// What the CA answers to a CSR.
pub(crate) type Behaviour = Box<dyn Fn(&TestCa, &str) -> Result<Vec<String>, Status> + Send>;

/// What one call brought along.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) authorization: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) seconds: i64,
    pub(crate) with_certificate: bool,
}

/// The state that stays when the server stops.
pub(crate) struct FakeCa {
    pub(crate) ca: TestCa,
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
    /// The bundles that are followed, and audiences of the tokens asked for.
    pub(crate) bundles: watch::Sender<BTreeMap<String, String>>,
    failed_handshakes: Arc<AtomicU32>,
}

impl FakeCa {
    pub(crate) fn new(
        behaviour: impl Fn(&TestCa, &str) -> Result<Vec<String>, Status> + Send + 'static,
    ) -> Arc<Self> {
        let behaviour = Mutex::new(Box::new(behaviour) as Behaviour);
        Arc::new(Self {
            ca: TestCa::new("control plane"),
            behaviour,
            calls: Mutex::default(),
            bundles: watch::channel(BTreeMap::new()).0,
            failed_handshakes: Arc::default(),
        })
    }

    pub(crate) fn behave(
        &self,
        behaviour: impl Fn(&TestCa, &str) -> Result<Vec<String>, Status> + Send + 'static,
    ) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How many connections ended before the first call, for want of trust for example.
    pub(crate) fn failed_handshakes(&self) -> u32 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    /// Serves at `address` until the answer is dropped; the address is the one bound.
    pub(crate) async fn serve(self: &Arc<Self>, address: SocketAddr) -> (SocketAddr, Serving) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(self.tls()));
        let (accepted, incoming) = mpsc::channel(1);
        let failed = self.failed_handshakes.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                match acceptor.accept(tcp).await {
                    Ok(tls) => _ = accepted.send(Ok::<_, std::io::Error>(Connection(tls))).await,
                    Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                }
            }
        });
        let service = IstioCertificateServiceServer::from_arc(self.clone());
        let identity = WorkloadIdentityServer::from_arc(self.clone());
        let discovery = XdsServer::new(Arc::new(EmptyMesh::default()), CancellationToken::new());
        let incoming = ReceiverStream::new(incoming);
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(service).add_service(identity);
            let server = server.add_service(discovery.aggregated());
            server.serve_with_incoming(incoming).await.unwrap();
        });
        (address, Serving([accepting, serving]))
    }

    fn tls(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.root_pem.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (certificate, key) = self.ca.serving(&["127.0.0.1", "control-plane.test"]);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A server at work; ends when dropped.
pub(crate) struct Serving([JoinHandle<()>; 2]);

impl Serving {
    /// Ends it and waits until its port is free.
    pub(crate) async fn stop(mut self) {
        for task in &mut self.0 {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

#[tonic::async_trait]
impl IstioCertificateService for FakeCa {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let call = Call {
            authorization: header("authorization"),
            cluster: header("clusterid"),
            seconds: request.get_ref().validity_duration,
            with_certificate: request.extensions().get::<Client>().unwrap().with_certificate,
        };
        self.calls.lock().unwrap().push(call);
        let cert_chain = self.behaviour.lock().unwrap()(&self.ca, &request.get_ref().csr)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// Tells proxies with a certificate that there are no listeners and no clusters. Refuses the streams of the
/// first connection, and leaves it open, like a control plane that was shown an expired certificate.
struct EmptyMesh {
    view: watch::Sender<Arc<View>>,
    refused: OnceLock<SocketAddr>,
}

impl Default for EmptyMesh {
    fn default() -> Self {
        let types = [TypeUrl::CLUSTER, TypeUrl::LISTENER];
        let sets = types.map(|type_url| Arc::new(ResourceSet::new(type_url, [])));
        Self { view: watch::Sender::new(Arc::new(View::new(sets))), refused: OnceLock::new() }
    }
}

#[tonic::async_trait]
impl StreamAuthorizer for EmptyMesh {
    async fn authenticate(&self, call: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
        let Client { address, with_certificate } = call.extensions().get().unwrap();
        if self.refused.get_or_init(|| *address) == address || !with_certificate {
            return Err(Status::unauthenticated("no valid certificate"));
        }
        let view = self.view.subscribe();
        Ok(Box::new(move |_: &Node| Ok(AuthorizedStream::new(None, view))))
    }
}

/// The other end of a connection.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    with_certificate: bool,
}

struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        let (tcp, tls) = self.0.get_ref();
        Client { address: tcp.peer_addr().unwrap(), with_certificate: tls.peer_certificates().is_some() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tonic::async_trait]
impl WorkloadIdentity for FakeCa {
    type FollowTrustBundlesStream = ReceiverStream<Result<TrustBundles, Status>>;

    async fn follow_trust_bundles(
        &self,
        _: Request<FollowTrustBundlesRequest>,
    ) -> Result<Response<Self::FollowTrustBundlesStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let mut bundles = self.bundles.subscribe();
        tokio::spawn(async move {
            loop {
                let message = TrustBundles { bundles: bundles.borrow_and_update().clone() };
                if sender.send(Ok(message)).await.is_err() || bundles.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    /// A token that says for whom it is, and nothing else.
    async fn create_jwt_svid(
        &self,
        request: Request<CreateJwtSvidRequest>,
    ) -> Result<Response<CreateJwtSvidResponse>, Status> {
        let audience = request.into_inner().audience;
        Ok(Response::new(CreateJwtSvidResponse { svid: format!("token for {}", audience.join(" and ")) }))
    }
}
