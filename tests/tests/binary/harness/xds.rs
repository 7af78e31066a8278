//! An xDS client: streams of both variants, as proxies hold them.

use std::collections::BTreeMap;

use eastwest_proto::{
    Any, Message,
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{Node, address, socket_address},
            endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
            listener::v3::{Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                HttpConnectionManager, http_connection_manager::RouteSpecifier,
            },
            transport_sockets::tls::v3::Secret,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc,
    type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET},
};
use eastwest_tests::bookshop::Member;
use prost_types::{Struct, Value, value::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    Server,
    clients::{bearing, plain, soon},
};

/// The two ways to speak xDS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    StateOfTheWorld,
    Delta,
}

pub(crate) const VARIANTS: [Variant; 2] = [Variant::StateOfTheWorld, Variant::Delta];

/// The node of a pod's sidecar.
pub(crate) fn node(member: &Member) -> Node {
    let Member { namespace, pod, app, address, .. } = member;
    node_of(&format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local"), namespace, app)
}

/// A node with an id, and namespace and service account in its metadata.
pub(crate) fn node_of(id: &str, namespace: &str, account: &str) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("NAMESPACE", namespace), ("SERVICE_ACCOUNT", account)];
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    Node { id: id.to_owned(), metadata: Some(Struct { fields }), ..Node::default() }
}

/// A response of either variant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) type_url: String,
    pub(crate) nonce: String,
    /// `version_info`; empty in delta.
    pub(crate) version: String,
    /// By name: version (empty in state of the world) and content.
    pub(crate) resources: BTreeMap<String, (String, Any)>,
    pub(crate) removed: Vec<String>,
}

impl Received {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.resources.keys().map(String::as_str).collect()
    }

    pub(crate) fn version_of(&self, name: &str) -> &str {
        &self.resources[name].0
    }

    /// A resource, decoded.
    pub(crate) fn get<M: Message + prost::Name + Default>(&self, name: &str) -> M {
        let (_, any) = self.resources.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        any.unpack().unwrap()
    }

    fn of_world(response: DiscoveryResponse) -> Self {
        let resource = |any: Any| (name_of(&any), (String::new(), any));
        Self {
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.version_info,
            resources: response.resources.into_iter().map(resource).collect(),
            removed: Vec::new(),
        }
    }

    fn of_delta(response: DeltaDiscoveryResponse) -> Self {
        let resources = response.resources.into_iter();
        Self {
            type_url: response.type_url,
            nonce: response.nonce,
            version: String::new(),
            resources: resources.map(|one| (one.name, (one.version, one.resource.unwrap()))).collect(),
            removed: response.removed_resources,
        }
    }
}

/// State of the world names no resource: its own name is within.
fn name_of(any: &Any) -> String {
    match any.type_url.as_str() {
        CLUSTER => any.unpack::<Cluster>().unwrap().name,
        ENDPOINT => any.unpack::<ClusterLoadAssignment>().unwrap().cluster_name,
        LISTENER => any.unpack::<Listener>().unwrap().name,
        ROUTE => any.unpack::<RouteConfiguration>().unwrap().name,
        SECRET => any.unpack::<Secret>().unwrap().name,
        other => panic!("a resource of type {other}"),
    }
}

enum Side {
    World(mpsc::UnboundedSender<DiscoveryRequest>, Streaming<DiscoveryResponse>),
    Delta(mpsc::UnboundedSender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>),
}

/// A stream of a proxy that accepts all responses.
pub(crate) struct Stream {
    side: Side,
    /// What is subscribed, by type; a list of names in state of the world is always the whole list.
    names: BTreeMap<String, Vec<String>>,
    /// The newest nonce of each type, without which a request in state of the world is outdated.
    nonces: BTreeMap<String, String>,
}

/// The resources of a proxy that has finished its start.
#[derive(Debug, PartialEq)]
pub(crate) struct Warm {
    pub(crate) clusters: Received,
    pub(crate) endpoints: Received,
    pub(crate) listeners: Received,
    pub(crate) routes: Received,
}

/// A first request.
#[derive(Default)]
pub(crate) struct First<'a> {
    pub(crate) node: Option<Node>,
    pub(crate) token: Option<&'a str>,
    pub(crate) type_url: &'a str,
    /// Delta: what the client still has.
    pub(crate) known: BTreeMap<String, String>,
}

impl Stream {
    /// Opens a stream with its first request. A refusal may come at once or with [`next`](Self::next).
    pub(crate) async fn open(channel: Channel, variant: Variant, first: First<'_>) -> Result<Self, Status> {
        let mut stub = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let (node, type_url) = (first.node, first.type_url.to_owned());
        let side = match variant {
            Variant::StateOfTheWorld => {
                let (sender, requests) = mpsc::unbounded_channel();
                sender.send(DiscoveryRequest { node, type_url, ..Default::default() }).unwrap();
                let requests = bearing(UnboundedReceiverStream::new(requests), first.token);
                Side::World(sender, soon(stub.stream_aggregated_resources(requests)).await?.into_inner())
            }
            Variant::Delta => {
                let (sender, requests) = mpsc::unbounded_channel();
                let initial_resource_versions = first.known;
                let request =
                    DeltaDiscoveryRequest { node, type_url, initial_resource_versions, ..Default::default() };
                sender.send(request).unwrap();
                let requests = bearing(UnboundedReceiverStream::new(requests), first.token);
                Side::Delta(sender, soon(stub.delta_aggregated_resources(requests)).await?.into_inner())
            }
        };
        Ok(Self { side, names: BTreeMap::new(), nonces: BTreeMap::new() })
    }

    /// A stream of a sidecar at the plaintext port, and what it was sent until it was warm.
    pub(crate) async fn warm(server: &Server, variant: Variant, member: &Member) -> (Self, Warm) {
        let first = First { node: Some(node(member)), type_url: CLUSTER, ..First::default() };
        let mut stream = Self::open(plain(server.grpc), variant, first).await.unwrap();
        let warm = stream.warm_up().await;
        (stream, warm)
    }

    /// Asks for what Envoy asks for, in its order, after a first request for clusters.
    pub(crate) async fn warm_up(&mut self) -> Warm {
        let clusters = self.accept().await;
        let endpoints = self.fetch(ENDPOINT, &assignments(&clusters)).await;
        let listeners = self.fetch(LISTENER, &[]).await;
        let routes = self.fetch(ROUTE, &route_names(&listeners)).await;
        Warm { clusters, endpoints, listeners, routes }
    }

    /// Asks for a type and accepts the answer.
    pub(crate) async fn fetch(&mut self, type_url: &str, names: &[String]) -> Received {
        self.ask(type_url, names);
        let received = self.accept().await;
        assert_eq!(received.type_url, type_url);
        received
    }

    /// Subscribes to a type: to `names`, or all.
    pub(crate) fn ask(&mut self, type_url: &str, names: &[String]) {
        self.names.insert(type_url.to_owned(), names.to_vec());
        let nonce = self.nonces.get(type_url).cloned().unwrap_or_default();
        self.request(type_url, names, &nonce, None);
    }

    fn request(&mut self, type_url: &str, names: &[String], nonce: &str, error: Option<&str>) {
        let (type_url, names, response_nonce) = (type_url.to_owned(), names.to_vec(), nonce.to_owned());
        let error_detail = error.map(|error| rpc::Status { message: error.to_owned(), ..Default::default() });
        // A stream that has ended takes no more requests; the test sees its end.
        let _ = match &self.side {
            Side::World(sender, _) => {
                let request =
                    DiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() };
                sender.send(DiscoveryRequest { resource_names: names, ..request }).is_ok()
            }
            Side::Delta(sender, _) => {
                let request =
                    DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() };
                sender.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..request }).is_ok()
            }
        };
    }

    /// The next response, not answered yet; the end of the stream; or its error.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, Status> {
        soon(async {
            Ok(match &mut self.side {
                Side::World(_, responses) => responses.message().await?.map(Received::of_world),
                Side::Delta(_, responses) => responses.message().await?.map(Received::of_delta),
            })
        })
        .await
    }

    /// The next response, accepted.
    pub(crate) async fn accept(&mut self) -> Received {
        self.answer(None).await
    }

    /// The next response, refused.
    pub(crate) async fn reject(&mut self, error: &str) -> Received {
        self.answer(Some(error)).await
    }

    async fn answer(&mut self, error: Option<&str>) -> Received {
        let received = self.next().await.unwrap().expect("the stream ended");
        let names = match &self.side {
            Side::World(..) => self.names.get(&received.type_url).cloned().unwrap_or_default(),
            Side::Delta(..) => Vec::new(),
        };
        self.nonces.insert(received.type_url.clone(), received.nonce.clone());
        self.request(&received.type_url, &names, &received.nonce, error);
        received
    }

    /// Closes the sending half of the stream.
    pub(crate) fn half_close(&mut self) {
        match &mut self.side {
            Side::World(sender, _) => *sender = mpsc::unbounded_channel().0,
            Side::Delta(sender, _) => *sender = mpsc::unbounded_channel().0,
        }
    }

    /// The error that ends the stream.
    pub(crate) async fn error(&mut self) -> Status {
        loop {
            match self.next().await {
                Err(status) => return status,
                Ok(received) => assert!(received.is_some(), "the stream ended without an error"),
            }
        }
    }
}

/// The error with which a first request is refused.
pub(crate) async fn refusal(channel: Channel, variant: Variant, first: First<'_>) -> Status {
    match Stream::open(channel, variant, first).await {
        Err(status) => status,
        Ok(mut stream) => {
            stream.next().await.map(|received| received.map(|one| one.names().len())).unwrap_err()
        }
    }
}

/// The assignments that these clusters wait for.
pub(crate) fn assignments(clusters: &Received) -> Vec<String> {
    let wanted = |name: &&String| clusters.get::<Cluster>(name).eds_cluster_config.is_some();
    clusters.resources.keys().filter(wanted).cloned().collect()
}

/// The route tables that these listeners name.
pub(crate) fn route_names(listeners: &Received) -> Vec<String> {
    let listeners = listeners.resources.keys().map(|name| listeners.get::<Listener>(name));
    let chains = listeners.flat_map(|one| one.filter_chains.into_iter().chain(one.default_filter_chain));
    let mut names: Vec<String> = chains
        .flat_map(|chain| chain.filters)
        .filter_map(|filter| {
            let Some(ConfigType::TypedConfig(any)) = filter.config_type else { return None };
            let manager = any.unpack::<HttpConnectionManager>().ok()?;
            match manager.route_specifier? {
                RouteSpecifier::Rds(rds) => Some(rds.route_config_name),
                RouteSpecifier::RouteConfig(_) => None,
            }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// "ADDRESS:PORT" of the endpoints of a cluster.
pub(crate) fn endpoints(received: &Received, cluster: &str) -> Vec<String> {
    let assignment: ClusterLoadAssignment = received.get(cluster);
    let endpoints = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let address = endpoints.map(|endpoint| match endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint.address.unwrap().address.unwrap(),
        other => panic!("{other:?}"),
    });
    address
        .map(|address| match address {
            address::Address::SocketAddress(socket) => match socket.port_specifier.unwrap() {
                socket_address::PortSpecifier::PortValue(port) => format!("{}:{port}", socket.address),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect()
}
