//! istioctl shows the proxies of a control plane whose address it is given.

use std::{fs, path::Path, process::Command};

use eastwest_proto::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc,
    type_url::{CLUSTER, LISTENER},
};
use eastwest_tests::{
    process::{run, until},
    programs,
};
use prost_types::{Struct, Value, value::Kind};
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;

use crate::{
    PATIENCE,
    control_plane::{ControlPlane, eastwest},
};

const REFUSED: &str = "no such extension";

/// A proxy that accepts its listeners and refuses its clusters, connected as long as the returned runtime lives.
fn proxy(grpc: &str) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let metadata = [("NAMESPACE", "shop"), ("CLUSTER_ID", "east"), ("AGENT_VERSION", "eastwest test")];
    let fields = metadata.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    let node = Node {
        id: "sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local".to_owned(),
        metadata: Some(Struct { fields }),
        ..Node::default()
    };
    runtime.spawn(async move {
        let (sender, requests) = mpsc::unbounded_channel();
        for type_url in [CLUSTER, LISTENER] {
            let type_url = type_url.to_owned();
            sender
                .send(DeltaDiscoveryRequest { node: Some(node.clone()), type_url, ..Default::default() })
                .unwrap();
        }
        let mut stub = AggregatedDiscoveryServiceClient::new(endpoint.connect_lazy());
        let responses = stub.delta_aggregated_resources(UnboundedReceiverStream::new(requests)).await;
        let mut responses = responses.unwrap().into_inner();
        while let Ok(Some(response)) = responses.message().await {
            let error = rpc::Status { message: REFUSED.to_owned(), ..rpc::Status::default() };
            let error_detail = (response.type_url == CLUSTER).then_some(error);
            let (type_url, response_nonce) = (response.type_url, response.nonce);
            let answer =
                DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() };
            sender.send(answer).unwrap();
        }
    });
    runtime
}

/// `istioctl proxy-status`, with the certificate in the folder `issued`. A revision keeps it from asking a cluster.
fn proxy_status(dir: &Path, server: &ControlPlane, flags: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(programs::istioctl().unwrap());
    command.env_clear().env("HOME", dir).current_dir(dir);
    command.args([
        "proxy-status",
        "--revision",
        "default",
        "--xds-address",
        &server.tls,
        "--cert-dir",
        "issued",
    ]);
    command.args(["--authority", "istiod.istio-system.svc", "--timeout", "10s"]).args(flags);
    run(command)
}

#[test]
#[ignore = "needs istioctl, which cargo xtask tools builds"]
fn istioctl_shows_the_proxies() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("manifests")).unwrap();
    let server = ControlPlane::start(dir, &["serve", "--config-dir", "manifests"]);
    let output = server.output();
    let grpc = output.split_whitespace().find_map(|word| word.strip_prefix("grpc=")).unwrap();
    let token = |account: &str| run(eastwest(dir, &["token", "--service-account", account])).unwrap();
    server.issues(&token("istio-system/default"), "istio-system/default");
    let nobody = proxy_status(dir, &server, &[]).unwrap();
    assert_eq!(nobody.lines().count(), 1, "a header: {nobody}");

    let _proxy = proxy(grpc);
    let verbose = || {
        proxy_status(dir, &server, &["-v", "1"]).map(|text| Some(text).filter(|text| text.contains("ERROR")))
    };
    let table = until("the proxy", PATIENCE, verbose).unwrap();
    let row = table.lines().find(|line| line.contains("web-0.shop")).unwrap();
    assert!(table.lines().next().unwrap().contains("CDS"), "{table}");
    assert!(row.contains("SYNCED (") && row.contains("east") && row.contains("eastwest test"), "{table}");
    let json: Json = serde_json::from_str(&proxy_status(dir, &server, &["-o", "json"]).unwrap()).unwrap();
    assert!(json.to_string().contains(REFUSED), "{json:#}");

    // The identity of a workload that is not of the root namespace sees nothing.
    server.issues(&token("shop/web"), "shop/web");
    let refused = proxy_status(dir, &server, &[]).unwrap_err().to_string();
    assert!(refused.contains("PermissionDenied") && refused.contains("istio-system"), "{refused}");
}
