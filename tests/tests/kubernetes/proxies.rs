//! Proxies of pods: xDS streams over mutual TLS, which accept and keep whatever comes.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use eastwest_proto::{
    Any,
    eastwest::v1::{WorkloadTls, inbound::Mode},
    envoy::{
        config::{
            cluster::v3::Cluster, core::v3::Node, endpoint::v3::ClusterLoadAssignment,
            listener::v3::Listener, route::v3::RouteConfiguration,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, WORKLOAD_TLS},
};
use eastwest_tests::process::until;
use hyper_util::rt::TokioIo;
use prost_types::{Struct, Value, value::Kind};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{net::TcpStream, runtime::Runtime, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{PATIENCE, server::Server};

/// The name that clients of istiod expect.
const SERVER_NAME: &str = "istiod.istio-system.svc";
/// What is subscribed.
const TYPES: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, WORKLOAD_TLS];

/// A certificate with its key, and the roots of its mesh, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) roots: String,
}

/// The two ways to speak xDS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    StateOfTheWorld,
    Delta,
}

/// Versions of resources by type and name; in state of the world, of a type as a whole with no name.
pub(crate) type Versions = BTreeMap<&'static str, BTreeMap<String, String>>;

/// Resources by type and name, as bytes.
pub(crate) type Resources = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

/// What a proxy holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) versions: Versions,
    /// The resources that it was sent and that are not gone, by type and name.
    pub(crate) resources: Resources,
    /// Responses by type, each with the number of resources that came or went.
    pub(crate) responses: BTreeMap<&'static str, Vec<usize>>,
    /// The mode of each answer about its own TLS settings.
    pub(crate) modes: Vec<Mode>,
    /// How the stream ended.
    pub(crate) end: Option<Result<(), Status>>,
}

impl Held {
    /// A response to each subscription has come.
    pub(crate) fn is_warm(&self) -> bool {
        self.responses.len() == TYPES.len()
    }

    fn keep(&mut self, url: &'static str, changed: usize, resources: &[Any]) {
        self.responses.entry(url).or_default().push(changed);
        let settings = resources.iter().filter_map(|any| any.unpack::<WorkloadTls>().ok());
        self.modes.extend(settings.map(|tls| tls.inbound.unwrap().default_mode()));
    }

    fn keep_world(&mut self, response: DiscoveryResponse) {
        let url = known(&response.type_url);
        self.keep(url, response.resources.len(), &response.resources);
        let named = response.resources.iter().map(|any| (name(any), any.value.to_vec()));
        let held = self.resources.entry(url).or_default();
        // Of these types each response has all resources.
        if [CLUSTER, LISTENER].contains(&url) {
            held.clear();
        }
        held.extend(named);
        self.versions.insert(url, [(String::new(), response.version_info)].into());
    }

    fn keep_delta(&mut self, response: DeltaDiscoveryResponse) {
        let url = known(&response.type_url);
        let all: Vec<Any> = response.resources.iter().filter_map(|one| one.resource.clone()).collect();
        self.keep(url, all.len() + response.removed_resources.len(), &all);
        let held = self.resources.entry(url).or_default();
        let bytes = response.resources.iter();
        held.extend(bytes.filter_map(|one| Some((one.name.clone(), one.resource.as_ref()?.value.to_vec()))));
        held.retain(|name, _| !response.removed_resources.contains(name));
        let versions = self.versions.entry(url).or_default();
        versions.extend(response.resources.into_iter().map(|one| (one.name, one.version)));
        versions.retain(|name, _| !response.removed_resources.contains(name));
    }
}

/// The name of a resource.
fn name(any: &Any) -> String {
    let name = match known(&any.type_url) {
        CLUSTER => any.unpack::<Cluster>().map(|one| one.name),
        ENDPOINT => any.unpack::<ClusterLoadAssignment>().map(|one| one.cluster_name),
        LISTENER => any.unpack::<Listener>().map(|one| one.name),
        ROUTE => any.unpack::<RouteConfiguration>().map(|one| one.name),
        _ => Ok(String::new()),
    };
    name.unwrap()
}

fn known(url: &str) -> &'static str {
    TYPES.into_iter().find(|known| *known == url).unwrap_or_else(|| panic!("a resource of type {url}"))
}

/// A connected proxy.
pub(crate) struct Proxy {
    _runtime: Runtime,
    held: Arc<Mutex<Held>>,
}

impl Proxy {
    /// Connects the proxy of a pod; with the versions that it holds already.
    pub(crate) fn connect(
        server: &Server,
        identity: &Identity,
        (namespace, pod): (&str, &str),
        variant: Variant,
        known: Versions,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        let held = Arc::new(Mutex::new(Held { versions: known, ..Held::default() }));
        let (address, identity, node) = (server.tls().to_owned(), identity.clone(), node(namespace, pod));
        let kept = Arc::clone(&held);
        runtime.spawn(async move {
            let channel = channel(&address, &identity).await.unwrap();
            let end = match variant {
                Variant::StateOfTheWorld => world(channel, node, &kept).await,
                Variant::Delta => delta(channel, node, &kept).await,
            };
            kept.lock().unwrap().end = Some(end);
        });
        Self { _runtime: runtime, held }
    }

    /// Waits until what it holds satisfies `condition`.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Held) -> bool) {
        let met = || Ok(condition(&self.held.lock().unwrap()).then_some(()));
        until(what, PATIENCE, met).unwrap_or_else(|error| {
            let Held { responses, modes, end, .. } = &*self.held.lock().unwrap();
            panic!("{error}: {responses:?} {modes:?} {end:?}")
        });
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Held) -> T) -> T {
        read(&self.held.lock().unwrap())
    }
}

fn node(namespace: &str, pod: &str) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("NAMESPACE".to_owned(), text(namespace))].into();
    let id = format!("sidecar~10.0.0.9~{pod}.{namespace}~{namespace}.svc.cluster.local");
    Node { id, metadata: Some(Struct { fields }), ..Node::default() }
}

async fn channel(address: &str, identity: &Identity) -> io::Result<Channel> {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&identity.roots));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(certificates(&identity.chain), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = SERVER_NAME.try_into().map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let once = tower::service_fn(move |_| {
        let stream = stream.lock().unwrap().take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(once).await.map_err(io::Error::other)
}

async fn world(channel: Channel, node: Node, held: &Mutex<Held>) -> Result<(), Status> {
    let (sender, requests) = mpsc::unbounded_channel();
    for url in TYPES {
        let known = held.lock().unwrap().versions.get(url).and_then(|all| all.get("").cloned());
        let request = DiscoveryRequest {
            node: Some(node.clone()),
            type_url: url.to_owned(),
            version_info: known.unwrap_or_default(),
            resource_names: vec!["*".to_owned()],
            ..DiscoveryRequest::default()
        };
        sender.send(request).unwrap();
    }
    let mut stub = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let requests = UnboundedReceiverStream::new(requests);
    let mut responses = stub.stream_aggregated_resources(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        let answer = DiscoveryRequest {
            type_url: response.type_url.clone(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            resource_names: vec!["*".to_owned()],
            ..DiscoveryRequest::default()
        };
        held.lock().unwrap().keep_world(response);
        let _ = sender.send(answer);
    }
    Ok(())
}

async fn delta(channel: Channel, node: Node, held: &Mutex<Held>) -> Result<(), Status> {
    let (sender, requests) = mpsc::unbounded_channel();
    for url in TYPES {
        let request = DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: url.to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            initial_resource_versions: held.lock().unwrap().versions.get(url).cloned().unwrap_or_default(),
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(request).unwrap();
    }
    let mut stub = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let requests = UnboundedReceiverStream::new(requests);
    let mut responses = stub.delta_aggregated_resources(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        held.lock().unwrap().keep_delta(response);
        let _ = sender.send(answer);
    }
    Ok(())
}
