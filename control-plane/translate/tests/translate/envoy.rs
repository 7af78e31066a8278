//! Stock Envoy reads what was generated: folded into a static bootstrap, for it checks no more of it otherwise
//! (ENVOY.md E28).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use eastwest_proto::envoy::config::listener::v3::Listener;
use eastwest_translate::{Audience, ProxyFacts};
use serde_json::{Value, json};

use crate::{
    call_cases,
    world::{self, Resources, read, settings},
};

/// Stock Envoy: the one that `EASTWEST_ENVOY` names, else the one that `cargo xtask tools` fetched.
pub(crate) fn stock_envoy(test: &str) -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/envoy");
    let named = env::var_os("EASTWEST_ENVOY").map(PathBuf::from);
    let found = named.or_else(|| fetched.is_file().then_some(fetched));
    if found.is_none() {
        eprintln!("SKIPPED: {test}: no Envoy; `cargo xtask tools` fetches it, EASTWEST_ENVOY names another");
    }
    found
}

#[test]
fn stock_envoy_accepts_the_shop() {
    let Some(envoy) = stock_envoy("stock_envoy_accepts_the_shop") else { return };
    let world = read("shop.yaml");
    for workload in ["shop/web-0", "shop/reviews-0", "shop/db-0"] {
        for internal_listeners in [false, true] {
            let facts = ProxyFacts { internal_listeners, ..ProxyFacts::usual(Audience::Envoy) };
            let resources = Resources::for_proxy(&settings(&world, workload), facts);
            assert_eq!(complaints(&envoy, &resources), "", "{workload}, internal: {internal_listeners}");
        }
    }
}

/// Hosts that are looked up when they are called: in plaintext, with names checked and not, over HTTP and TLS.
#[test]
fn stock_envoy_accepts_dynamic_hosts() {
    let Some(envoy) = stock_envoy("stock_envoy_accepts_dynamic_hosts") else { return };
    let entry = |name: &str, port: u16, protocol: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": name, "namespace": "hill"},
            "spec": {
                "hosts": [format!("*.{name}.example")], "resolution": "DYNAMIC_DNS",
                "ports": [{"number": port, "name": "p", "protocol": protocol}],
            },
        })
    };
    let rule = |name: &str, tls: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": "hill"},
            "spec": {"host": format!("*.{name}.example"), "trafficPolicy": {"tls": tls}},
        })
    };
    let farm = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "farm", "namespace": "hill"}});
    let objects = [
        farm,
        entry("plain", 80, "HTTP"),
        entry("through", 443, "TLS"),
        entry("simple", 80, "HTTP"),
        entry("blind", 80, "HTTP2"),
        entry("mesh", 8080, "GRPC"),
        rule("simple", json!({"mode": "SIMPLE"})),
        rule("blind", json!({"mode": "SIMPLE", "insecureSkipVerify": true})),
        rule("mesh", json!({"mode": "ISTIO_MUTUAL"})),
    ];
    let manifests: Vec<_> = objects.iter().map(Value::to_string).collect();
    let resources = Resources::of(&world::world(&manifests.join("\n---\n")), "hill/farm");
    for (name, port) in [("plain", 80), ("through", 443), ("simple", 80), ("blind", 80), ("mesh", 8080)] {
        let cluster = resources.cluster(&format!("outbound|{port}||*.{name}.example")).unwrap();
        let shown = world::json(std::slice::from_ref(cluster))[0].clone();
        assert_eq!(shown["cluster_type"]["name"], "envoy.clusters.dynamic_forward_proxy", "{shown}");
        let insecure = shown["cluster_type"]["typed_config"]["allow_insecure_cluster_options"] == true;
        assert_eq!(insecure, !["simple", "mesh"].contains(&name), "{name}: the server is who was called");
    }
    let listener =
        |name: &str| world::json(std::slice::from_ref(resources.listener(name).unwrap()))[0].to_string();
    assert!(listener("0.0.0.0_80").contains("envoy.filters.http.dynamic_forward_proxy"));
    assert!(listener("0.0.0.0_443").contains("envoy.filters.network.sni_dynamic_forward_proxy"));
    assert_eq!(complaints(&envoy, &resources), "");
}

#[test]
fn stock_envoy_accepts_every_worked_case() {
    let Some(envoy) = stock_envoy("stock_envoy_accepts_every_worked_case") else { return };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/tls");
    let mut faults = Vec::new();
    for entry in fs::read_dir(cases).unwrap() {
        let case = entry.unwrap().path();
        let text = |file: &str| fs::read_to_string(case.join(file)).unwrap();
        let expected: Value = serde_json::from_str(&text("expect.json")).unwrap();
        let Some(workload) = expected["workload"].as_str() else { continue };
        let complaints = complaints(&envoy, &Resources::of(&world::world(&text("input.yaml")), workload));
        if !complaints.is_empty() {
            faults.push(format!("{}: {complaints}", case.display()));
        }
    }
    for case in call_cases::cases() {
        let (world, expected) = call_cases::read(&case);
        let client = expected["calls"][0]["client"].as_str().unwrap();
        let complaints = complaints(&envoy, &Resources::of(&world, client));
        if !complaints.is_empty() {
            faults.push(format!("{}: {complaints}", case.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What Envoy has against the resources.
pub(crate) fn complaints(envoy: &Path, resources: &Resources) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("envoy.json");
    fs::write(&file, bootstrap(resources, dir.path()).to_string()).unwrap();
    let run =
        Command::new(envoy).args(["--mode", "validate", "-l", "warning", "-c"]).arg(&file).output().unwrap();
    let log = String::from_utf8_lossy(&run.stderr);
    let bad = |line: &&str| line.contains("deprecated") || !run.status.success();
    log.lines().filter(bad).collect::<Vec<_>>().join("\n")
}

/// A static bootstrap with all resources, routes in listeners of their own, and the clusters of the agent's one.
fn bootstrap(resources: &Resources, dir: &Path) -> Value {
    let unix = |name: &str| {
        let address = json!({"pipe": {"path": dir.join(name)}});
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
        json!({"name": name, "connect_timeout": "1s", "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
    };
    let mut clusters = world::json(&resources.clusters);
    clusters.extend([unix("xds-grpc"), unix("sds-grpc")]);
    readable_files(&mut clusters, dir);
    let mut listeners = world::json(&resources.listeners);
    let routes = world::json(&resources.routes);
    listeners.extend(routes.into_iter().enumerate().map(|(at, routes)| route_listener(at, routes)));
    let internal = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener";
    json!({
        "node": {"id": "test", "cluster": "test"},
        "layered_runtime": {"layers": [{
            "name": "test", "static_layer": {"re2.max_program_size.error_level": 32768},
        }]},
        "dynamic_resources": {"ads_config": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]
        }},
        "static_resources": {"clusters": clusters, "listeners": listeners},
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {"@type": internal},
        }],
    })
}

fn route_listener(at: usize, routes: Value) -> Value {
    let port = 20_000 + at;
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "name": format!("routes-{at}"),
        "bind_to_port": false,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": manager, "stat_prefix": "routes", "route_config": routes,
            "http_filters": [{"name": "router", "typed_config": {"@type": router}}]
        }}]}]
    })
}

/// Puts files with a certificate and its key in place of those that rules name.
fn readable_files(value: &mut [Value], dir: &Path) {
    let issued = rcgen::generate_simple_self_signed(vec!["test".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    fs::write(&certificate, issued.cert.pem()).unwrap();
    fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    value.iter_mut().for_each(|value| replace(value, "", &certificate, &key));
}

fn replace(value: &mut Value, key: &str, certificate: &Path, private_key: &Path) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "filename" {
                    *field = json!(if key == "private_key" { private_key } else { certificate });
                }
                replace(field, name, certificate, private_key);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, key, certificate, private_key)),
        _ => {}
    }
}

/// The check itself must be able to fail.
#[test]
fn a_clash_of_chains_is_a_complaint() {
    let Some(envoy) = stock_envoy("a_clash_of_chains_is_a_complaint") else { return };
    let mut resources = Resources::of(&read("shop.yaml"), "shop/web-0");
    let inbound: &mut Listener =
        resources.listeners.iter_mut().find(|one| one.name == "virtualInbound").unwrap();
    let mut twin = inbound.filter_chains[1].clone();
    twin.name = "twin".to_owned();
    inbound.filter_chains.push(twin);
    assert!(complaints(&envoy, &resources).contains("matching rules"));
}
