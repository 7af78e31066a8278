//! Istio's own agent, with a stock Envoy behind it, in a cluster.

use std::{fs, path::Path, process::Command};

use eastwest_tests::{
    process::{Process, run, until},
    programs,
};
use serde_json::{Value, json};

use crate::{PATIENCE, cluster::Cluster, kubectl::apply_bookshop, server::Server};

/// The pod whose sidecar they are.
const POD: (&str, &str, &str) = ("bookshop", "storefront-0", "10.77.0.10");
const ACCOUNT: &str = "storefront";
const IDENTITY: &str = "spiffe://cluster.local/ns/bookshop/sa/storefront";

/// Istio's agent in `dir`, with the files that a pod has.
fn agent(cluster: &Cluster, server: &Server, dir: &Path) -> Process {
    let (namespace, pod, ip) = POD;
    let at = |path: &str| cluster.ask("GET", &format!("/api/v1/namespaces/{namespace}/{path}"), None);
    let found = at(&format!("pods/{pod}"));
    let programs = cluster.programs.as_ref().unwrap();
    let token = programs.token((namespace, ACCOUNT), Some("istio-ca"), Some(&found)).unwrap();
    fs::write(dir.join("token"), token).unwrap();
    let roots = at("configmaps/istio-ca-root-cert")["data"]["root-cert.pem"].as_str().unwrap().to_owned();
    fs::write(dir.join("root-cert.pem"), roots).unwrap();
    let mut command = Command::new(programs::istio_client().unwrap());
    command.args(["-ca", server.tls(), "-discovery", server.tls(), "-root", "root-cert.pem"]);
    command.args(["-token", "token", "-namespace", namespace, "-service-account", ACCOUNT]);
    command.args(["-pod", pod, "-ip", ip]).current_dir(dir);
    let mut agent = Process::spawn("Istio's agent", command, &dir.join("agent.log")).unwrap();
    agent.wait_for_line("the agent runs", PATIENCE).unwrap();
    agent
}

/// A stock Envoy that has its secrets and its configuration from the agent in `dir`, in a network of its own.
fn envoy(dir: &Path) -> Process {
    let file = dir.join("envoy.json");
    fs::write(&file, bootstrap().to_string()).unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(programs::envoy().unwrap()).arg("-c").arg(&file).current_dir(dir);
    command.args(["--disable-hot-restart", "--log-level", "warning"]);
    Process::spawn("Envoy", command, &dir.join("envoy.log")).unwrap()
}

/// As Istio's, without what only Istio's build of Envoy has.
fn bootstrap() -> Value {
    let (namespace, pod, ip) = POD;
    let cluster = |name: &str, path: &str| {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let endpoint = json!({"endpoint": {"address": {"pipe": {"path": path}}}});
        json!({"name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {options: {"@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": {"http2_protocol_options": {}}}}})
    };
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "node": {
            "id": format!("sidecar~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": "storefront.bookshop",
            "metadata": {"NAME": pod, "NAMESPACE": namespace, "SERVICE_ACCOUNT": ACCOUNT,
                "CLUSTER_ID": "Kubernetes", "INSTANCE_IPS": ip, "ISTIO_VERSION": "1.31.0",
                "INTERCEPTION_MODE": "REDIRECT", "LABELS": {"app": "storefront"}},
        },
        "admin": {"address": {"pipe": {"path": "admin.sock"}}},
        "dynamic_resources": {
            "lds_config": ads, "cds_config": ads,
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]},
        },
        "static_resources": {"clusters": [
            cluster("xds-grpc", "etc/istio/proxy/XDS"),
            cluster("sds-grpc", "var/run/secrets/workload-spiffe-uds/socket"),
        ]},
    })
}

/// A page of Envoy's administration.
fn admin(dir: &Path, path: &str) -> anyhow::Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--max-time", "5", "--unix-socket"]).arg(dir.join("admin.sock"));
    curl.arg(format!("http://envoy{path}"));
    run(curl)
}

/// The dynamic resources of a kind: name → what is active.
fn resources(dir: &Path, what: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let page: Value = serde_json::from_str(&admin(dir, &format!("/config_dump?resource={what}"))?)?;
    let all = page["configs"].as_array().cloned().unwrap_or_default();
    let named = all.into_iter().map(|one| {
        assert!(one["error_state"].is_null(), "{one:#}");
        let active = if one["cluster"].is_object() { &one["cluster"] } else { &one["active_state"] };
        let name = one["name"].as_str().or(active["name"].as_str()).unwrap_or_default();
        (name.to_owned(), active.clone())
    });
    Ok(named.collect())
}

/// How many filter chains of the inbound listener take plaintext.
fn plaintext_chains(dir: &Path) -> Option<usize> {
    let listeners = resources(dir, "dynamic_listeners").ok()?;
    let (_, inbound) = listeners.into_iter().find(|(name, _)| name == "virtualInbound")?;
    let chains = inbound["listener"]["filter_chains"].as_array()?.clone();
    let plaintext = |chain: &&Value| {
        chain["transport_socket"].is_null() && chain["filter_chain_match"]["transport_protocol"] != "tls"
    };
    Some(chains.iter().filter(plaintext).count())
}

#[test]
#[ignore = "needs root, stock Envoy and the programs that cargo xtask tools builds"]
fn istios_agent_gets_certificate_and_configuration_for_a_stock_envoy() {
    let Some(cluster) = Cluster::start_own() else { return };
    apply_bookshop(&cluster);
    let server = Server::start(&cluster, &["--namespace", "istio-system"]);
    let files = tempfile::tempdir().unwrap();
    let dir = files.path();
    let agent = agent(&cluster, &server, dir);
    let envoy = envoy(dir);
    let all = || format!("{}\n{}\n{}", agent.output(), envoy.output(), server.process.output());

    let plaintext = until("listeners", PATIENCE, || Ok(plaintext_chains(dir)))
        .unwrap_or_else(|error| panic!("{error}: {}", all()));
    assert!(plaintext > 0, "the namespace is PERMISSIVE");
    let clusters = resources(dir, "dynamic_active_clusters").unwrap();
    let catalog = "outbound|80||catalog.bookshop.svc.cluster.local";
    assert!(clusters.iter().any(|(name, _)| name == catalog), "{clusters:#?}");
    let certificates = admin(dir, "/certs").unwrap();
    assert!(certificates.contains(IDENTITY), "{certificates}");
    let endpoints = admin(dir, "/clusters").unwrap();
    assert!(endpoints.contains(&format!("{catalog}::10.77.0.20:8080::")), "{endpoints}");

    // A policy of the cluster reaches it.
    let strict = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "bookshop"},
        "spec": {"selector": {"matchLabels": {"app": "storefront"}}, "mtls": {"mode": "STRICT"}}});
    cluster.apply(&[strict]);
    until("no plaintext", PATIENCE, || {
        Ok(plaintext_chains(dir).filter(|chains| *chains < plaintext).map(drop))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", all()));
    let rejected = admin(dir, "/stats?filter=(cds|lds|rds|sds).*update_rejected").unwrap();
    assert!(rejected.lines().count() > 2 && rejected.lines().all(|line| line.ends_with(": 0")), "{rejected}");
}
