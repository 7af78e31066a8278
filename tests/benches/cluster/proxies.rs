//! Connected proxies, each a connection with a delta ADS stream that accepts what it gets, as our bootstrap of Envoy has it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_proto::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
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

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a proxy subscribes to, in its order.
const TYPES: [TypeUrl; 4] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE];

/// Responses received so far, by type.
type Received = Arc<watch::Sender<BTreeMap<String, u64>>>;

/// Proxies of pods of all namespaces, each with its namespace.
pub(crate) struct Proxies(Vec<(String, Received)>);

impl Proxies {
    /// Connects them, and waits until each has everything.
    pub(crate) async fn connect(address: &str, mesh: &Mesh, number: usize) -> Self {
        let mut proxies = Vec::new();
        for place in 0..number {
            let channel =
                Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
            let received = Received::default();
            let pod = place * (mesh.pods / number).max(1) % mesh.pods;
            let namespace = mesh.namespace(mesh.service_of(pod));
            tokio::spawn(run(channel, node(&namespace, pod), received.clone()));
            proxies.push((namespace, received));
        }
        let proxies = Self(proxies);
        for kind in TYPES {
            proxies.wait(kind.as_str(), 1).await;
        }
        proxies
    }

    /// Waits until each has at least that many responses of the type.
    async fn wait(&self, type_url: &str, at_least: u64) {
        for (_, proxy) in &self.0 {
            wait(proxy, type_url, at_least).await;
        }
    }

    /// Makes a change, and returns the time from the API's answer until all have it that it concerns: of an endpoint all, of a
    /// PeerAuthentication those of its namespace.
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
        let concerned: Vec<_> = self
            .0
            .iter()
            .filter(|(namespace, _)| change == "endpoint" || *namespace == mesh.namespace(0))
            .map(|(_, proxy)| (proxy, proxy.borrow().get(type_url).copied().unwrap_or_default()))
            .collect();
        let of = if change == "endpoint" {
            "application/merge-patch+json"
        } else {
            "application/apply-patch+yaml"
        };
        mesh.request("PATCH", of, path, object).await;
        let answered = Instant::now();
        for (proxy, before) in concerned {
            wait(proxy, type_url, before + 1).await;
        }
        let taken = answered.elapsed();
        // The next change begins when everything is quiet.
        tokio::time::sleep(Duration::from_millis(300)).await;
        taken
    }
}

/// Waits until a proxy has at least that many responses of the type.
async fn wait(proxy: &Received, type_url: &str, at_least: u64) {
    let mut received = proxy.subscribe();
    let enough = received.wait_for(|all| all.get(type_url).copied().unwrap_or_default() >= at_least);
    timeout(PATIENCE, enough).await.expect("a response in time").unwrap();
}

/// The proxy of a pod.
fn node(namespace: &str, pod: usize) -> Node {
    let id = format!("sidecar~{}~{}.{namespace}~{namespace}.svc.cluster.local", address(pod), pod_name(pod));
    Node { id, user_agent_name: "envoy".to_owned(), ..Node::default() }
}

async fn run(channel: Channel, node: Node, received: Received) {
    let (requests, outgoing) = mpsc::channel(16);
    let ask = async |node: Option<Node>, type_url: &str, subscribe: Vec<String>, nonce: String| {
        let request = DeltaDiscoveryRequest {
            node,
            type_url: type_url.to_owned(),
            resource_names_subscribe: subscribe,
            response_nonce: nonce,
            ..DeltaDiscoveryRequest::default()
        };
        let _ = requests.send(request).await;
    };
    ask(Some(node), TypeUrl::CLUSTER.as_str(), Vec::new(), String::new()).await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let answer = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
    let mut responses = answer.unwrap().into_inner();
    while let Ok(Some(response)) = responses.message().await {
        let first = !received.borrow().contains_key(&response.type_url);
        received.send_modify(|all| *all.entry(response.type_url.clone()).or_default() += 1);
        ask(None, &response.type_url, Vec::new(), response.nonce).await;
        if first && response.type_url == TypeUrl::CLUSTER.as_str() {
            let clusters = response.resources.iter().filter_map(|one| one.resource.as_ref());
            let names = clusters.filter_map(|any| cluster_name(&any.value)).collect();
            ask(None, TypeUrl::ENDPOINT.as_str(), names, String::new()).await;
            ask(None, TypeUrl::LISTENER.as_str(), Vec::new(), String::new()).await;
            ask(None, TypeUrl::ROUTE.as_str(), vec!["*".to_owned()], String::new()).await;
        }
    }
}

/// The name of an outbound cluster; `None` for others, which have no endpoints to ask for.
fn cluster_name(bytes: &[u8]) -> Option<String> {
    let cluster: eastwest_proto::envoy::config::cluster::v3::Cluster = prost::Message::decode(bytes).ok()?;
    cluster.name.starts_with("outbound|").then_some(cluster.name)
}
