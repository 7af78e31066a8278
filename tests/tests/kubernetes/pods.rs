//! Pods and Services as they come in a cluster: what the API's own controllers make of them is what proxies are sent.

use std::collections::BTreeMap;

use eastwest_tests::process::until;
use serde_json::{Value, json};

use crate::{PATIENCE, cases, cluster::Cluster, server::Server};

const NAMESPACE: &str = "shop";

/// A pod of the mesh with the label `app`; `status` as its kubelet writes it.
fn pod(name: &str, app: &str, spec: &Value, status: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": app, "security.istio.io/tlsMode": "istio"}},
        "spec": {"containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}]},
        "status": status});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    if !spec["hostNetwork"].is_null() {
        pod["metadata"]["labels"] = json!({"app": app});
    }
    pod
}

fn running(addresses: &[&str], ready: bool) -> Value {
    let all: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let ready = if ready { "True" } else { "False" };
    json!({"phase": "Running", "podIP": addresses[0], "podIPs": all,
        "conditions": [{"type": "Ready", "status": ready}]})
}

fn ended(phase: &str, address: &str) -> Value {
    let mut status = running(&[address], false);
    status["phase"] = json!(phase);
    status
}

/// In the network of its node, with one port.
fn on_the_node(port: u16) -> Value {
    json!({"hostNetwork": true,
        "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": port}]}]})
}

fn service(name: &str, target: u16, spec: &Value) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": target}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

/// A slice that no controller wrote.
fn slice(name: &str, family: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "far"}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]})
}

fn everything() -> Vec<Value> {
    let none = json!({});
    let headless = json!({"clusterIP": "None", "selector": {"app": "web"},
        "ports": [{"name": "tcp", "port": 9090}]});
    let entry = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"hosts": ["web.example"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            "workloadSelector": {"labels": {"app": "web"}}}});
    vec![
        pod("client", "client", &none, &running(&["10.1.0.100"], true)),
        pod("web-ready", "web", &none, &running(&["10.1.0.1"], true)),
        pod("web-unready", "web", &none, &running(&["10.1.0.2"], false)),
        pod("web-new", "web", &none, &json!({"phase": "Pending"})),
        pod("web-done", "web", &none, &ended("Succeeded", "10.1.0.3")),
        pod("web-evicted", "web", &none, &ended("Failed", "10.1.0.4")),
        pod("web-heir", "web", &none, &running(&["10.1.0.4"], true)),
        pod("agent-a", "agent-a", &on_the_node(9100), &running(&["192.168.0.1"], true)),
        pod("agent-b", "agent-b", &on_the_node(9200), &running(&["192.168.0.1"], true)),
        pod("both-0", "both", &none, &running(&["10.1.1.1", "fd00::1"], true)),
        service("web", 8080, &none),
        service("lax", 8080, &json!({"selector": {"app": "web"}, "publishNotReadyAddresses": true})),
        service("peers", 8080, &headless),
        service("agent-a", 9100, &none),
        service("agent-b", 9200, &none),
        service("both", 8080, &json!({"ipFamilyPolicy": "RequireDualStack"})),
        service("far", 8080, &json!({"selector": null})),
        service(
            "alias",
            80,
            &json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local", "selector": null}),
        ),
        slice("far-1", "IPv4", &["10.9.0.1"]),
        slice("far-2", "IPv4", &["10.1.0.1"]),
        slice("far-6", "IPv6", &["fd00::9"]),
        entry,
    ]
}

/// How the client calls.
struct Calls<'a> {
    server: &'a Server,
    cluster: &'a Cluster,
}

impl Calls<'_> {
    /// The endpoints of a host, each with its mode; nothing for hosts whose endpoints are not chosen one by one.
    fn endpoints(&self, host: &str) -> BTreeMap<String, String> {
        let calls = self.server.page("/debug/tls?workload=shop/client");
        let entry = calls["outbound"].as_array().unwrap().iter().find(|entry| entry["host"] == host);
        let endpoints = entry.and_then(|entry| entry["endpoints"].as_object());
        let text = |(address, mode): (&String, &Value)| (address.clone(), mode.as_str().unwrap().to_owned());
        endpoints.into_iter().flatten().map(text).collect()
    }

    /// Waits until a host has these endpoints: ADDRESS:PORT of pods in the mesh, and of others.
    fn reach(&self, host: &str, mesh: &[&str], others: &[&str]) {
        let host =
            if host.contains('.') { host.to_owned() } else { format!("{host}.shop.svc.cluster.local") };
        let with = |mode: &'static str| move |address: &&str| ((*address).to_owned(), mode.to_owned());
        let all = mesh.iter().map(with("ISTIO_MUTUAL")).chain(others.iter().map(with("DISABLE")));
        let expected: BTreeMap<_, _> = all.collect();
        let met = || Ok((self.endpoints(&host) == expected).then_some(()));
        until("endpoints", PATIENCE, met).unwrap_or_else(|error| {
            let slices = self.cluster.ask("GET", "/apis/discovery.k8s.io/v1/endpointslices", None);
            panic!("{error}: {host} has {:?}, not {expected:?}; {slices:#}", self.endpoints(&host))
        });
    }

    fn status(&self, pod: &str, status: &Value) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/status");
        let patch = json!({"status": status});
        let (code, answer) = self.cluster.send("PATCH", &path, "application/merge-patch+json", Some(&patch));
        assert_eq!(code, 200, "{answer}");
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn pods_and_services_of_all_sorts_are_the_endpoints_that_the_controllers_derive() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let definitions = eastwest_tests::programs::istio_definitions().unwrap();
    cluster.programs().apply(&definitions).unwrap();
    cluster.programs().start_controllers().unwrap();
    let server = Server::start(&cluster, &["--namespace", &cluster.namespace()]);
    cluster.apply(&everything());
    let calls = Calls { server: &server, cluster: &cluster };
    calls.reach("web", &["10.1.0.1:8080", "10.1.0.4:8080"], &[]);
    calls.reach("lax", &["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.4:8080"], &[]);
    calls.reach("web.example", &["10.1.0.1:8080", "10.1.0.4:8080"], &[]);
    calls.reach("agent-a", &[], &["192.168.0.1:9100"]);
    calls.reach("agent-b", &[], &["192.168.0.1:9200"]);
    // The client has IPv4 alone.
    calls.reach("both", &["10.1.1.1:8080"], &[]);
    calls.reach("far", &["10.1.0.1:8080"], &["10.9.0.1:8080"]);
    headless_and_alias(&server);

    // A Pod becomes ready, another one gets its address, one ends its work, and one is about to end.
    calls.status("web-unready", &running(&["10.1.0.2"], true));
    calls.status("web-new", &running(&["10.1.0.5"], true));
    calls.status("web-heir", &ended("Succeeded", "10.1.0.4"));
    let slowly = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 600});
    cluster.ask("DELETE", "/api/v1/namespaces/shop/pods/web-ready", Some(&slowly));
    calls.reach("web", &["10.1.0.2:8080", "10.1.0.5:8080"], &[]);
    calls.reach("web.example", &["10.1.0.2:8080", "10.1.0.5:8080"], &[]);
    calls.reach("lax", &["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.5:8080"], &[]);
    calls.reach("far", &["10.1.0.1:8080"], &["10.9.0.1:8080"]);
    let slices = cluster.ask("GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", None);
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    assert!(slices.to_string().contains(&leaving.to_string()), "the case is there: {slices:#}");
    assert_eq!(server.get("/debug/tls?workload=shop/web-ready").0, 200, "its proxy is served to its end");
    assert!(cases::same_from_files(&cluster, "pods") >= 10);
}

fn headless_and_alias(server: &Server) {
    let page = server.page("/debug/config_dump?workload=shop/client&types=lds");
    let names: Vec<_> =
        page["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    // Clients find the pods of a headless Service by its name, whichever of them are ready.
    for address in ["10.1.0.1", "10.1.0.2", "10.1.0.4"] {
        assert!(names.contains(&&*format!("{address}_9090")), "{address}: {names:?}");
    }
    for address in ["10.1.0.3", "10.1.0.5"] {
        assert!(!names.contains(&&*format!("{address}_9090")), "{address}: {names:?}");
    }
    let calls = server.page("/debug/tls?workload=shop/client");
    let calls = calls["outbound"].as_array().unwrap();
    let of =
        |host: &str| calls.iter().find(|entry| entry["host"] == format!("{host}.shop.svc.cluster.local"));
    assert_eq!(of("peers").unwrap()["mode"], "ISTIO_MUTUAL");
    assert_eq!(of("alias"), None, "an alias has no cluster");
    let alias = "/debug/explain?client=shop/client&host=alias.shop.svc.cluster.local&port=80";
    assert!(server.page(alias).to_string().contains("web.shop.svc.cluster.local"));
}
