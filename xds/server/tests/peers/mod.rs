//! A server on loopback and clients of both variants.
#![allow(dead_code, reason = "no test needs everything")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eastwest_proto::envoy::config::core::v3 as core;
use eastwest_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use eastwest_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use eastwest_proto::google::rpc;
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, Variant, View};
use eastwest_xds_server::{
    AuthenticatedClient, AuthorizedStream, Connections, Node, StreamAuthorizer, XdsServer,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, Streaming};

pub(crate) const VARIANTS: [Variant; 2] = [Variant::StateOfTheWorld, Variant::Delta];

/// Gives all clients the same view until it is withdrawn; refuses nodes of the namespace `early`.
#[derive(Clone)]
struct TestAuthorizer(Arc<Mutex<Option<watch::Sender<Arc<View>>>>>);

#[tonic::async_trait]
impl StreamAuthorizer for TestAuthorizer {
    async fn authenticate(&self, call: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
        let identity = call.metadata().get("x-identity").map(|value| value.to_str().unwrap().to_owned());
        let views = Arc::clone(&self.0);
        Ok(Box::new(move |node: &Node| {
            let views = views.lock().unwrap();
            let views = views.as_ref().filter(|_| node.namespace() != "early");
            let view = views.ok_or_else(|| Status::unavailable("not synced"))?.subscribe();
            Ok(AuthorizedStream::new(identity, view))
        }))
    }
}

pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<Connections>,
    pub(crate) shutdown: CancellationToken,
    authorizer: TestAuthorizer,
}

impl Host {
    pub(crate) async fn start(view: View) -> Self {
        let authorizer = TestAuthorizer(Arc::new(Mutex::new(Some(watch::Sender::new(Arc::new(view))))));
        let shutdown = CancellationToken::new();
        let server = XdsServer::new(Arc::new(authorizer.clone()), shutdown.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::clone(server.connections());
        let router = Server::builder().add_service(server.aggregated()).add_service(server.secrets());
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, connections, shutdown, authorizer }
    }

    /// Replaces the view of all clients.
    pub(crate) fn publish(&self, view: View) {
        let mut views = self.authorizer.0.lock().unwrap();
        views.get_or_insert_default().send_replace(Arc::new(view));
    }

    /// Withdraws the view of all clients.
    pub(crate) fn expel(&self) {
        self.authorizer.0.lock().unwrap().take();
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }
}

/// A view of sets, each a type and its resources.
pub(crate) fn view(sets: &[(TypeUrl, &[(&str, &str)])]) -> View {
    View::new(sets.iter().map(|(type_url, resources)| {
        let encode =
            |(name, body): &(&str, &str)| EncodedResource::new(type_url.clone(), name, body.as_bytes());
        Arc::new(ResourceSet::new(type_url.clone(), resources.iter().map(|r| Arc::new(encode(r)))))
    }))
}

/// What a client received, of either variant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) type_url: String,
    pub(crate) nonce: String,
    pub(crate) bodies: Vec<String>,
    pub(crate) removed: Vec<String>,
}

enum Side {
    Sotw(mpsc::UnboundedSender<DiscoveryRequest>, Streaming<DiscoveryResponse>),
    Delta(mpsc::UnboundedSender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>),
}

/// One stream, seen from the client.
pub(crate) struct Client {
    side: Side,
    node: Option<core::Node>,
}

pub(crate) fn node(id: &str) -> Option<core::Node> {
    Some(core::Node { id: id.to_owned(), ..core::Node::default() })
}

impl Client {
    pub(crate) async fn open(host: &Host, variant: Variant) -> Self {
        Self::over(host.channel(), variant).await
    }

    pub(crate) async fn over(channel: Channel, variant: Variant) -> Self {
        let mut stub = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let side = match variant {
            Variant::StateOfTheWorld => {
                let (sender, requests) = mpsc::unbounded_channel();
                let responses =
                    stub.stream_aggregated_resources(UnboundedReceiverStream::new(requests)).await;
                Side::Sotw(sender, responses.unwrap().into_inner())
            }
            Variant::Delta => {
                let (sender, requests) = mpsc::unbounded_channel();
                let responses = stub.delta_aggregated_resources(UnboundedReceiverStream::new(requests)).await;
                Side::Delta(sender, responses.unwrap().into_inner())
            }
        };
        Self { side, node: node("sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local") }
    }

    pub(crate) fn with_node(mut self, node: Option<core::Node>) -> Self {
        self.node = node;
        self
    }

    /// A first request of a type; the stream's first one carries the node.
    pub(crate) fn ask(&mut self, type_url: &str, names: &[&str]) {
        self.request(type_url, names, "", None);
    }

    pub(crate) fn ack(&mut self, received: &Received) {
        self.request(&received.type_url, &[], &received.nonce, None);
    }

    pub(crate) fn nack(&mut self, received: &Received, error: &str) {
        self.request(&received.type_url, &[], &received.nonce, Some(error));
    }

    fn request(&mut self, type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) {
        let (node, type_url, response_nonce) = (self.node.take(), type_url.to_owned(), nonce.to_owned());
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let error_detail =
            error.map(|message| rpc::Status { message: message.to_owned(), ..Default::default() });
        // A stream that has ended takes no more requests; the test sees its end.
        let _ = match &self.side {
            Side::Sotw(sender, _) => sender
                .send(DiscoveryRequest {
                    node,
                    type_url,
                    resource_names: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                })
                .is_ok(),
            Side::Delta(sender, _) => sender
                .send(DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                })
                .is_ok(),
        };
    }

    /// The next response, the end of the stream, or its error.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, Status> {
        soon(async {
            Ok(match &mut self.side {
                Side::Sotw(_, responses) => responses.message().await?.map(|response| Received {
                    type_url: response.type_url,
                    nonce: response.nonce,
                    bodies: response.resources.iter().map(|any| text(&any.value)).collect(),
                    removed: Vec::new(),
                }),
                Side::Delta(_, responses) => responses.message().await?.map(|response| Received {
                    type_url: response.type_url,
                    nonce: response.nonce,
                    bodies: response
                        .resources
                        .iter()
                        .map(|r| text(&r.resource.as_ref().unwrap().value))
                        .collect(),
                    removed: response.removed_resources,
                }),
            })
        })
        .await
    }

    /// The next response; there must be one.
    pub(crate) async fn get(&mut self) -> Received {
        self.next().await.unwrap().expect("the stream ended")
    }

    /// Closes the client's half only.
    pub(crate) fn half_close(&mut self) {
        match &mut self.side {
            Side::Sotw(sender, _) => *sender = mpsc::unbounded_channel().0,
            Side::Delta(sender, _) => *sender = mpsc::unbounded_channel().0,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened for 20 s")
}
