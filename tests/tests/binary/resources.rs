//! What a proxy is sent, and that it is the same again wherever the content is the same.

use std::collections::BTreeMap;

use eastwest_proto::{
    eastwest::v1 as own,
    envoy::config::{cluster::v3::Cluster, core::v3::Node, route::v3::RouteConfiguration},
    type_url::{CLUSTER, ENDPOINT, LISTENER, WORKLOAD_TLS},
};
use eastwest_tests::bookshop::{CATALOG, PAYMENTS, STOREFRONT};
use prost_types::value::Kind;
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::harness::{
    Bench, Server,
    clients::plain,
    xds::{First, Received, Stream, VARIANTS, Variant, Warm, endpoints, node, refusal},
};

#[tokio::test(flavor = "multi_thread")]
async fn resources_have_istiods_names() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        let (_, warm) = Stream::warm(&server, variant, &STOREFRONT).await;
        let clusters = [
            "BlackHoleCluster",
            "InboundPassthroughCluster",
            "PassthroughCluster",
            "inbound|8080||",
            "outbound|5000||orders.bookshop.svc.cluster.local",
            "outbound|6000||payments.payments.svc.cluster.local",
            "outbound|7000||warehouse.warehouse.svc.cluster.local",
            "outbound|80|current|catalog.bookshop.svc.cluster.local",
            "outbound|80|next|catalog.bookshop.svc.cluster.local",
            "outbound|80||catalog.bookshop.svc.cluster.local",
            "outbound|80||legacy.bookshop.svc.cluster.local",
            "outbound|80||orders.bookshop.svc.cluster.local",
            "outbound|80||payments.payments.svc.cluster.local",
            "outbound|80||storefront.bookshop.svc.cluster.local",
            "outbound|80||warehouse.warehouse.svc.cluster.local",
            "outbound|9090||payments.payments.svc.cluster.local",
        ];
        assert_eq!(warm.clusters.names(), clusters);
        let outbound: Vec<_> =
            clusters.iter().filter(|name| name.starts_with("outbound|")).copied().collect();
        assert_eq!(warm.endpoints.names(), outbound, "an assignment for each");
        for name in ["virtualInbound", "virtualOutbound", "0.0.0.0_80", "10.96.1.30_5000"] {
            assert!(warm.listeners.names().contains(&name), "{name}: {:?}", warm.listeners.names());
        }
        let routes: RouteConfiguration = warm.routes.get("80");
        let domains: Vec<_> = routes.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
        for domain in ["catalog.bookshop.svc.cluster.local", "catalog", "10.96.1.20"] {
            assert!(domains.iter().any(|one| *one == domain), "{domain}: {domains:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_name_the_pods_that_are_selected() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (_, warm) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    for (cluster, addresses) in [
        ("outbound|80||catalog.bookshop.svc.cluster.local", &["10.77.0.20:8080", "10.77.0.21:8080"][..]),
        ("outbound|80|next|catalog.bookshop.svc.cluster.local", &["10.77.0.21:8080"]),
        ("outbound|5000||orders.bookshop.svc.cluster.local", &["10.77.0.30:5000"]),
        ("outbound|80||legacy.bookshop.svc.cluster.local", &["10.77.0.60:8080"]),
    ] {
        assert_eq!(endpoints(&warm.endpoints, cluster), addresses, "{cluster}");
        assert_eq!(warm.clusters.get::<Cluster>(cluster).name, cluster);
    }
}

/// The versions of everything that was sent: by resource in delta, by type in state of the world.
fn versions(warm: &Warm) -> Vec<(&str, &str)> {
    let types = [&warm.clusters, &warm.endpoints, &warm.listeners, &warm.routes];
    let of_resources = types.iter().flat_map(|one| one.resources.iter());
    let of_resources = of_resources.map(|(name, (version, _))| (name.as_str(), version.as_str()));
    types.iter().map(|one| (one.type_url.as_str(), one.version.as_str())).chain(of_resources).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_those_of_the_content_on_every_stream_and_after_a_restart() {
    let bench = Bench::new();
    for variant in VARIANTS {
        let server = bench.serve(&[]);
        let (_first, first) = Stream::warm(&server, variant, &STOREFRONT).await;
        let (_second, second) = Stream::warm(&server, variant, &STOREFRONT).await;
        assert_eq!(versions(&first), versions(&second));
        assert!(versions(&first).iter().any(|(_, version)| !version.is_empty()));
        drop(server);
        let restarted = bench.serve(&[]);
        let (_third, third) = Stream::warm(&restarted, variant, &STOREFRONT).await;
        assert_eq!(versions(&first), versions(&third));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_with_the_same_settings_are_sent_the_same_bytes() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (_, storefront) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let (_, catalog) = Stream::warm(&server, Variant::Delta, &CATALOG).await;
    assert_eq!(storefront.endpoints.resources, catalog.endpoints.resources);
    assert_eq!(storefront.routes.resources, catalog.routes.resources);
    let (_, payments) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    assert_eq!(payments.clusters.names().iter().filter(|name| name.starts_with("inbound|")).count(), 3);
    let inbound = |warm: &Warm| warm.listeners.version_of("virtualInbound").to_owned();
    assert_eq!(inbound(&storefront), inbound(&catalog));
    assert_ne!(inbound(&storefront), inbound(&payments), "STRICT there");
}

/// A delta stream of the storefront that still has something.
async fn reconnect(server: &Server, type_url: &str, known: BTreeMap<String, String>) -> Stream {
    let first = First { node: Some(node(&STOREFRONT)), type_url, known, ..First::default() };
    Stream::open(plain(server.grpc), Variant::Delta, first).await.unwrap()
}

fn held(received: &Received) -> BTreeMap<String, String> {
    received.resources.iter().map(|(name, (version, _))| (name.clone(), version.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reconnects_is_sent_only_changes() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (stream, warm) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    drop(stream);
    drop(server);
    let server = bench.serve(&[]);

    let mut same = reconnect(&server, CLUSTER, held(&warm.clusters)).await;
    let nothing = same.accept().await;
    assert_eq!((nothing.type_url.as_str(), nothing.names(), &nothing.removed), (CLUSTER, vec![], &vec![]));
    same.ask(LISTENER, &[]);
    assert_eq!(same.accept().await.type_url, LISTENER);

    let mut known = held(&warm.clusters);
    known.insert("inbound|8080||".to_owned(), "of yesterday".to_owned());
    known.insert("outbound|80||closed.bookshop.svc.cluster.local".to_owned(), "of yesterday".to_owned());
    let mut other = reconnect(&server, CLUSTER, known).await;
    let difference = other.accept().await;
    assert_eq!(difference.names(), ["inbound|8080||"]);
    assert_eq!(difference.removed, ["outbound|80||closed.bookshop.svc.cluster.local"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_type_says_what_the_command_prints() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for member in [STOREFRONT, PAYMENTS, CATALOG] {
        let name = format!("{}/{}", member.namespace, member.pod);
        let first = First { node: Some(node(&member)), type_url: WORKLOAD_TLS, ..First::default() };
        let mut stream = Stream::open(plain(server.grpc), Variant::Delta, first).await.unwrap();
        let received = stream.accept().await;
        assert_eq!(received.names(), [&name], "its own and nobody else's");
        let printed = bench.run(&["tls", &name, "--server", &server.url(), "-o", "json"]).json();
        assert_eq!(as_printed(&received.get(&name)), printed);
        if member.pod != STOREFRONT.pod {
            continue;
        }
        // A rule whose host does not exist: a warning that comes while the proxy is connected.
        bench.write("late.yaml", LATE_RULE);
        let received = stream.accept().await;
        let printed = bench.run(&["tls", &name, "--server", &server.url(), "-o", "json"]).json();
        assert_eq!(as_printed(&received.get(&name)), printed);
        assert!(printed["warnings"].to_string().contains("late"), "{printed}");
        bench.remove("late.yaml");
        stream.accept().await;
    }
}

const LATE_RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: late, namespace: bookshop}
spec: {host: catalog.bookshop, trafficPolicy: {tls: {mode: DISABLE}}}
";

/// The message in the shape of `eastwest tls -o json`.
fn as_printed(message: &own::WorkloadTls) -> Value {
    let inbound = message.inbound.as_ref().unwrap();
    let ports = inbound.ports.iter();
    let modes: Map<_, _> =
        ports.clone().map(|(port, one)| (port.to_string(), json!(one.mode().as_str_name()))).collect();
    let policies: Map<_, _> =
        ports.filter_map(|(port, one)| Some((port.to_string(), json!(one.policy.as_ref()?)))).collect();
    let warning = |one: &own::Warning| json!({"object": one.object, "message": one.message, "beaten_by": one.beaten_by});
    json!({
        "workload": message.workload, "identity": message.identity,
        "inbound": {
            "default": inbound.default_mode().as_str_name(), "policy": inbound.policy,
            "ports": modes, "port_policies": policies,
        },
        "outbound": message.outbound.iter().map(destination).collect::<Vec<_>>(),
        "warnings": message.warnings.iter().map(warning).collect::<Vec<_>>(),
    })
}

fn destination(one: &own::Outbound) -> Value {
    let names = one.subject_alt_names.as_ref().map(|names| &names.names);
    let mut printed = json!({
        "host": one.host, "port": one.port, "subset": one.subset, "mode": one.mode().as_str_name(),
        "sni": one.sni, "subject_alt_names": names, "policy": one.policy,
    });
    if one.mode() == own::outbound::Mode::Auto {
        let mode = |mode: i32| own::outbound::Mode::try_from(mode).unwrap().as_str_name();
        let endpoints: Map<_, _> =
            one.endpoints.iter().map(|(address, one)| (address.clone(), json!(mode(*one)))).collect();
        printed["endpoints"] = endpoints.into();
    }
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_envoy_is_not_sent_a_type_of_ours() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        let envoy = Node { user_agent_name: "envoy".to_owned(), ..node(&STOREFRONT) };
        let first = First { node: Some(envoy), type_url: WORKLOAD_TLS, ..First::default() };
        let mut stream = Stream::open(plain(server.grpc), variant, first).await.unwrap();
        stream.ask(CLUSTER, &[]);
        let clusters = stream.accept().await;
        assert_eq!(clusters.type_url, CLUSTER);
        for (_, any) in clusters.resources.values() {
            assert_eq!(any.type_url, CLUSTER);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_assignment_is_empty() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let unknown = "outbound|80||nobody.bookshop.svc.cluster.local".to_owned();
    for variant in VARIANTS {
        let (mut stream, _) = Stream::warm(&server, variant, &STOREFRONT).await;
        let answer = stream.fetch(ENDPOINT, std::slice::from_ref(&unknown)).await;
        match variant {
            Variant::Delta if !answer.removed.is_empty() => assert_eq!(answer.removed, [unknown.as_str()]),
            _ => assert!(endpoints(&answer, &unknown).is_empty()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_an_unreachable_control_plane_in_vain() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let address = server.grpc;
    server.stop();
    let first = First { node: Some(node(&STOREFRONT)), type_url: CLUSTER, ..First::default() };
    let refused = refusal(plain(address), Variant::Delta, first).await;
    assert_eq!(refused.code(), Code::Unavailable, "ports are closed with the process");
}

/// O9: a proxy tells in its node of a certificate of its own; it shows that one in the mesh, others go on as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_own_certificate_is_taken_from_its_node() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
    for variant in VARIANTS {
        for (own, expected) in [(true, "file-cert:/own/chain.pem~/own/key.pem"), (false, "default")] {
            let mut node = node(&STOREFRONT);
            let fields = &mut node.metadata.as_mut().unwrap().fields;
            let paths = [
                ("TLS_CLIENT_CERT_CHAIN", "/own/chain.pem"),
                ("TLS_CLIENT_KEY", "/own/key.pem"),
                ("TLS_CLIENT_ROOT_CERT", "/own/root.pem"),
            ];
            fields.extend(paths.iter().filter(|_| own).map(|(name, path)| ((*name).to_owned(), text(path))));
            let first = First { node: Some(node), type_url: CLUSTER, ..First::default() };
            let mut stream = Stream::open(plain(server.grpc), variant, first).await.unwrap();
            let received = stream.accept().await;
            let cluster = &received.resources["outbound|80||orders.bookshop.svc.cluster.local"].1;
            let shown = String::from_utf8_lossy(&cluster.value);
            assert!(shown.contains(expected), "{variant:?}: {expected} in {shown}");
            assert_eq!(shown.contains("file-root:/own/root.pem"), own, "{variant:?}: {shown}");
        }
    }
}
