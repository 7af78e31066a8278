//! Connected proxies, each a state-of-the-world ADS stream that accepts what it gets.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_proto::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use eastwest_xds::TypeUrl;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::mesh::{Mesh, address, pod_name};

/// Streams on one connection.
const STREAMS: usize = 100;
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a proxy subscribes to, in its order.
const TYPES: [TypeUrl; 3] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER];

/// Responses received so far, by type.
type Received = Arc<watch::Sender<BTreeMap<String, u64>>>;

/// The proxies of the first pods.
pub(crate) struct Proxies(Vec<Received>);

impl Proxies {
    /// Connects them, and waits until each has its clusters, endpoints and listeners.
    pub(crate) async fn connect(address: &str, mesh: &Mesh, number: usize) -> Self {
        let mut proxies = Vec::new();
        let mut channel = None;
        for place in 0..number {
            if place % STREAMS == 0 {
                let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
                channel = Some(endpoint.connect().await.unwrap());
            }
            let received = Received::default();
            tokio::spawn(run(channel.clone().unwrap(), node(mesh, place % mesh.pods), received.clone()));
            proxies.push(received);
        }
        let proxies = Self(proxies);
        for kind in TYPES {
            proxies.wait(kind.as_str(), 1).await;
        }
        proxies
    }

    /// Waits until each has more than `before` responses of the type.
    async fn wait(&self, type_url: &str, at_least: u64) {
        for proxy in &self.0 {
            let mut received = proxy.subscribe();
            let enough = received.wait_for(|all| all.get(type_url).copied().unwrap_or_default() >= at_least);
            timeout(PATIENCE, enough).await.expect("a response in time").unwrap();
        }
    }

    /// Makes a change, and returns the time from the API's answer until all have it.
    pub(crate) async fn time(&self, mesh: &Mesh, change: &str, round: usize) -> Duration {
        let even = round.is_multiple_of(2);
        let (type_url, (path, object)) = match change {
            "endpoint" => (TypeUrl::ENDPOINT.as_str(), mesh.endpoint_change(!even)),
            _ => {
                let mode = if even { "STRICT" } else { "PERMISSIVE" };
                let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                    "metadata": {"name": "default"}, "spec": {"mtls": {"mode": mode}}});
                let path = format!(
                    "/apis/security.istio.io/v1/namespaces/{}/peerauthentications/default?fieldManager=bench&force=true",
                    mesh.namespace(0)
                );
                (TypeUrl::LISTENER.as_str(), (path, policy))
            }
        };
        let before: Vec<_> =
            self.0.iter().map(|one| one.borrow().get(type_url).copied().unwrap_or_default()).collect();
        let of = if change == "endpoint" {
            "application/merge-patch+json"
        } else {
            "application/apply-patch+yaml"
        };
        mesh.request("PATCH", of, path, object).await;
        let answered = Instant::now();
        for (proxy, before) in self.0.iter().zip(before) {
            let mut received = proxy.subscribe();
            let enough = received.wait_for(|all| all.get(type_url).copied().unwrap_or_default() > before);
            timeout(PATIENCE, enough).await.expect("a response in time").unwrap();
        }
        let taken = answered.elapsed();
        // The next change begins when everything is quiet.
        tokio::time::sleep(Duration::from_millis(300)).await;
        taken
    }
}

/// All proxies are of the first namespace, as far as it has pods.
fn node(mesh: &Mesh, place: usize) -> Node {
    let pods = (0..mesh.pods).filter(|pod| mesh.namespace(mesh.service_of(*pod)) == mesh.namespace(0));
    let pods: Vec<_> = pods.collect();
    let pod = pods[place % pods.len()];
    let namespace = mesh.namespace(0);
    let id = format!("sidecar~{}~{}.{namespace}~{namespace}.svc.cluster.local", address(pod), pod_name(pod));
    Node { id, ..Node::default() }
}

async fn run(channel: Channel, node: Node, received: Received) {
    let (requests, outgoing) = mpsc::channel(16);
    let mut node = Some(node);
    let mut ask = async |type_url: &str, names: Vec<String>, version: String, nonce: String| {
        let request = DiscoveryRequest {
            node: node.take(),
            type_url: type_url.to_owned(),
            resource_names: names,
            version_info: version,
            response_nonce: nonce,
            ..DiscoveryRequest::default()
        };
        let _ = requests.send(request).await;
    };
    ask(TypeUrl::CLUSTER.as_str(), Vec::new(), String::new(), String::new()).await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let answer = client.stream_aggregated_resources(ReceiverStream::new(outgoing)).await;
    let mut responses = answer.unwrap().into_inner();
    let mut names = Vec::new();
    while let Ok(Some(response)) = responses.message().await {
        let first = !received.borrow().contains_key(&response.type_url);
        let of_endpoints = response.type_url == TypeUrl::ENDPOINT.as_str();
        received.send_modify(|all| *all.entry(response.type_url.clone()).or_default() += 1);
        let wanted = if of_endpoints { names.clone() } else { Vec::new() };
        ask(&response.type_url, wanted, response.version_info, response.nonce).await;
        if first && response.type_url == TypeUrl::CLUSTER.as_str() {
            names = response.resources.iter().filter_map(|any| cluster_name(&any.value)).collect();
            ask(TypeUrl::ENDPOINT.as_str(), names.clone(), String::new(), String::new()).await;
            ask(TypeUrl::LISTENER.as_str(), Vec::new(), String::new(), String::new()).await;
        }
    }
}

/// The name of an outbound cluster; `None` for others, which have no endpoints to ask for.
fn cluster_name(bytes: &[u8]) -> Option<String> {
    let cluster: eastwest_proto::envoy::config::cluster::v3::Cluster = prost::Message::decode(bytes).ok()?;
    cluster.name.starts_with("outbound|").then_some(cluster.name)
}
