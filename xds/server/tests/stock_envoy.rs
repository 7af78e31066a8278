//! The same course of events with stock Envoy as the client, in both variants.
//!
//! Needs the path of an Envoy binary in `EASTWEST_ENVOY`, as `cargo xtask test` sets it.
#![allow(missing_docs, clippy::unwrap_used)]

mod peers;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eastwest_proto::envoy::config::cluster::v3::Cluster;
use eastwest_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use eastwest_proto::envoy::config::listener::v3::Listener;
use eastwest_proto::json::from_json;
use eastwest_proto::{Message, Name};
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, View};
use eastwest_xds_server::TypeStatus;
use peers::{Host, soon};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn stock_envoy_follows_in_state_of_the_world() {
    follow("GRPC").await;
}

#[tokio::test]
async fn stock_envoy_follows_in_delta() {
    follow("DELTA_GRPC").await;
}

/// Ends Envoy with the test.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn follow(api_type: &str) {
    let Some(binary) = std::env::var_os("EASTWEST_ENVOY") else {
        eprintln!("SKIPPED: EASTWEST_ENVOY is not set; run `cargo xtask test`");
        return;
    };
    let port = free_port();
    let world = World { backend: echo().await, port };
    let host = Host::start(world.view("c1", 1, "tcp")).await;
    let directory = tempfile::tempdir().unwrap();
    let _envoy = start(Path::new(&binary), directory.path(), &bootstrap(host.address.port(), api_type));

    settled(&host, 3).await;
    world.greet().await;

    // The ACK of clusters comes only when all are warm: the changed one got its endpoints again (XDS.md X41).
    host.publish(world.view("c1", 2, "tcp"));
    settled(&host, 3).await;
    world.greet().await;

    // Make before break: the listener moves from one cluster to another (XDS.md X40).
    host.publish(world.view("c2", 2, "tcp"));
    settled(&host, 3).await;
    world.greet().await;

    // What Envoy refuses is known, and over with the next good version (XDS.md X11).
    host.publish(world.view("c2", 2, "no.such.filter"));
    let error = refused(&host).await;
    assert!(error.contains("no.such.filter"), "{error}");
    world.greet().await;
    host.publish(world.view("c2", 3, "tcp"));
    settled(&host, 3).await;

    // A new stream: a delta client is sent nothing that it has (XDS.md X36).
    let before = resources_sent(&host);
    host.expel();
    soon(until(|| host.connections.is_empty())).await;
    host.publish(world.view("c2", 3, "tcp"));
    settled(&host, 3).await;
    world.greet().await;
    if api_type == "DELTA_GRPC" {
        assert_eq!(resources_sent(&host), before);
    }
}

/// Waits until Envoy has accepted the latest view in `types` types.
async fn settled(host: &Host, types: usize) {
    let synced = |statuses: &[TypeStatus]| {
        statuses.len() == types && statuses.iter().all(|status| status.state == "SYNCED")
    };
    let done = tokio::time::timeout(Duration::from_secs(15), async {
        // Two looks at a distance, because a push takes some steps.
        until(|| synced(&statuses(host))).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        until(|| synced(&statuses(host))).await;
    });
    assert!(done.await.is_ok(), "Envoy did not settle: {:#?}", host.connections.list());
}

async fn refused(host: &Host) -> String {
    let error = || statuses(host).into_iter().find_map(|status| status.error);
    soon(until(|| error().is_some())).await;
    error().unwrap()
}

fn statuses(host: &Host) -> Vec<TypeStatus> {
    host.connections.list().into_iter().flat_map(|connection| connection.types).collect()
}

fn resources_sent(host: &Host) -> u64 {
    host.connections.counters().iter().map(|counters| counters.resources).sum()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A backend, and the port at which Envoy is to offer it.
struct World {
    backend: u16,
    port: u16,
}

impl World {
    /// One cluster of that name, in the edition `timeout`, and a listener with that filter.
    fn view(&self, cluster: &str, timeout: u32, filter: &str) -> View {
        let clusters = encode::<Cluster>(
            cluster,
            &json!({
                "name": cluster, "type": "EDS", "connectTimeout": format!("{timeout}s"),
                "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
            }),
        );
        let endpoint = json!({"endpoint": {"address": socket(self.backend)}});
        let assignment = json!({"clusterName": cluster, "endpoints": [{"lbEndpoints": [endpoint]}]});
        let endpoints = encode::<ClusterLoadAssignment>(cluster, &assignment);
        let listeners = encode::<Listener>("front", &self.listener(cluster, filter));
        let set = |type_url, resource| ResourceSet::new(type_url, [Arc::new(resource)]);
        let empty: fn(&str) -> EncodedResource =
            |name| encode::<ClusterLoadAssignment>(name, &json!({"clusterName": name}));
        View::new([
            Arc::new(set(TypeUrl::CLUSTER, clusters.warmed_by(TypeUrl::ENDPOINT, cluster))),
            Arc::new(set(TypeUrl::ENDPOINT, endpoints).answering_absent(empty)),
            Arc::new(set(TypeUrl::LISTENER, listeners)),
        ])
    }

    fn listener(&self, cluster: &str, filter: &str) -> Value {
        let tcp_proxy = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "statPrefix": "front", "cluster": cluster,
        });
        let filter = match filter {
            "tcp" => json!({"name": "tcp", "typedConfig": tcp_proxy}),
            unknown => json!({"name": unknown}),
        };
        json!({"name": "front", "address": socket(self.port), "filterChains": [{"filters": [filter]}]})
    }

    /// A connection through Envoy reaches the backend.
    async fn greet(&self) {
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
        };
        soon(exchange).await;
    }
}

fn encode<M: Message + Name + Default>(name: &str, json: &Value) -> EncodedResource {
    let type_url = TypeUrl::parse(&M::type_url()).unwrap();
    EncodedResource::new(type_url, name, &from_json::<M>(json).unwrap().encode_to_vec())
}

fn socket(port: u16) -> Value {
    json!({"socketAddress": {"address": "127.0.0.1", "portValue": port}})
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A backend that sends back what it gets.
async fn echo() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    port
}

fn bootstrap(port: u16, api_type: &str) -> Value {
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicitHttpConfig": {"http2ProtocolOptions": {}},
    }});
    let ads = json!({"ads": {}, "resourceApiVersion": "V3", "initialFetchTimeout": "0s"});
    json!({
        "node": {"id": "sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local", "cluster": "web"},
        "dynamicResources": {
            "cdsConfig": ads, "ldsConfig": ads,
            "adsConfig": {
                "apiType": api_type, "transportApiVersion": "V3", "setNodeOnFirstMessageOnly": true,
                "grpcServices": [{"envoyGrpc": {"clusterName": "xds", "retryPolicy": {
                    "retryBackOff": {"baseInterval": "0.1s", "maxInterval": "0.5s"}}}}],
            },
        },
        "staticResources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connectTimeout": "1s", "typedExtensionProtocolOptions": http2,
            "loadAssignment": {"clusterName": "xds", "endpoints": [
                {"lbEndpoints": [{"endpoint": {"address": socket(port)}}]}]},
        }]},
    })
}

fn start(binary: &Path, directory: &Path, bootstrap: &Value) -> Envoy {
    let file = directory.join("envoy.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warn"]);
    Envoy(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap())
}
