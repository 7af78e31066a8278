//! Where the connections of an application go, and as what.

use std::collections::BTreeSet;

use eastwest_proto::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        core::v3::{TransportSocket, transport_socket::ConfigType},
        route::v3::RouteConfiguration,
    },
    extensions::transport_sockets::tls::v3::{UpstreamTlsContext, common_tls_context::ValidationContextType},
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use eastwest_xds::TypeUrl;

use crate::world::{Connection, Resources, outcome, read, world};

fn shop() -> Resources {
    Resources::of(&read("shop.yaml"), "shop/web-0")
}

/// What becomes of a connection to an address, as `virtualOutbound` hands it on.
fn dial(
    resources: &Resources,
    address: &str,
    port: u16,
    transport: &str,
    protocols: &[&str],
    server_name: &str,
) -> String {
    let exact = resources.listener(&format!("{address}_{port}"));
    let listener = exact.or_else(|| resources.listener(&format!("0.0.0.0_{port}")));
    let listener = listener.or_else(|| resources.listener("virtualOutbound")).unwrap();
    let address = address.parse().ok();
    outcome(listener, &Connection { address, port, server_name, transport, protocols })
}

#[test]
fn names_are_those_of_istiod() {
    let names = |type_url| -> Vec<String> {
        shop().view.get(&type_url).unwrap().iter().map(|one| one.name().to_string()).collect()
    };
    let clusters = names(TypeUrl::CLUSTER);
    for name in [
        "BlackHoleCluster",
        "InboundPassthroughCluster",
        "PassthroughCluster",
        "inbound|8080||",
        "inbound|9000||",
        "outbound|9080||reviews.shop.svc.cluster.local",
        "outbound|9080|v1|reviews.shop.svc.cluster.local",
    ] {
        assert!(clusters.iter().any(|one| one == name), "{name} of {clusters:?}");
    }
    assert_eq!(
        names(TypeUrl::LISTENER),
        [
            "0.0.0.0_27017",
            "0.0.0.0_443",
            "0.0.0.0_80",
            "0.0.0.0_9000",
            "0.0.0.0_9080",
            "10.0.0.41_9092",
            "10.0.0.42_9092",
            "10.96.0.12_3306",
            "10.96.0.13_6379",
            "virtualInbound",
            "virtualOutbound",
        ]
    );
    assert_eq!(names(TypeUrl::ROUTE), ["80", "9000", "9080"]);
}

#[test]
fn every_assignment_of_an_eds_cluster_is_there() {
    let shop = shop();
    let assigned: BTreeSet<_> = shop.assignments.iter().map(|one| one.cluster_name.as_str()).collect();
    let eds = |cluster: &&Cluster| {
        cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32))
    };
    let clusters: BTreeSet<_> = shop.clusters.iter().filter(eds).map(|one| one.name.as_str()).collect();
    assert_eq!(assigned, clusters);
}

#[test]
fn connections_find_their_cluster() {
    let shop = shop();
    let http = ["http/1.1"];
    let cases = [
        // HTTP by the routes of its port, whatever the address.
        (("10.96.0.11", 9080, "raw_buffer", &http[..], ""), "raw http 9080"),
        (("10.96.0.11", 9080, "raw_buffer", &["http/1.0"], ""), "raw http 9080"),
        (("192.0.2.1", 9080, "raw_buffer", &[], ""), "raw tcp PassthroughCluster"),
        // Bytes by address.
        (("10.96.0.12", 3306, "raw_buffer", &[], ""), "raw tcp outbound|3306||db.shop.svc.cluster.local"),
        (("192.0.2.1", 3306, "raw_buffer", &[], ""), "raw tcp PassthroughCluster"),
        // Found out.
        (("10.96.0.13", 6379, "raw_buffer", &[], ""), "raw tcp outbound|6379||cache.shop.svc.cluster.local"),
        (
            ("10.96.0.13", 6379, "raw_buffer", &http, ""),
            "raw http outbound|6379||cache.shop.svc.cluster.local",
        ),
        (
            ("10.96.0.13", 6379, "raw_buffer", &["h2c"], ""),
            "raw http outbound|6379||cache.shop.svc.cluster.local",
        ),
        // Headless: by the address of the pod.
        (("10.0.0.42", 9092, "raw_buffer", &[], ""), "raw tcp outbound|9092||kafka.shop.svc.cluster.local"),
        // No address of their own: by the name that TLS asks for, so that none takes the traffic of another.
        (("192.0.2.1", 443, "tls", &["h2"], "api.example.com"), "raw tcp outbound|443||api.example.com"),
        (("192.0.2.1", 443, "tls", &[], "files.example.com"), "raw tcp outbound|443||files.example.com"),
        (("192.0.2.1", 443, "tls", &http, "www.example.net"), "raw tcp PassthroughCluster"),
        (("192.0.2.1", 443, "raw_buffer", &[], ""), "raw tcp PassthroughCluster"),
        // The only one that can be meant.
        (("192.0.2.1", 27017, "raw_buffer", &[], ""), "raw tcp outbound|27017||mongo.example.com"),
        (("192.0.2.1", 5432, "raw_buffer", &[], ""), "raw tcp PassthroughCluster"),
        (("127.0.0.1", 15001, "raw_buffer", &[], ""), "raw tcp BlackHoleCluster"),
    ];
    for ((address, port, transport, protocols, name), expected) in cases {
        let found = dial(&shop, address, port, transport, protocols, name);
        assert_eq!(found, expected, "{address}:{port} {transport} {protocols:?} {name}");
    }
}

#[test]
fn registry_only_refuses_what_no_service_knows() {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\ndata:\n  mesh: |\n    \
                outboundTrafficPolicy:\n      mode: REGISTRY_ONLY\n---\n";
    let shop = std::fs::read_to_string(crate::world::path("worlds/shop.yaml")).unwrap();
    let shop = Resources::of(&world(&format!("{mesh}{shop}")), "shop/web-0");
    assert_eq!(dial(&shop, "192.0.2.1", 5432, "raw_buffer", &[], ""), "raw tcp BlackHoleCluster");
    assert_eq!(dial(&shop, "192.0.2.1", 443, "tls", &[], "www.example.net"), "raw tcp BlackHoleCluster");
    assert_eq!(dial(&shop, "192.0.2.1", 9080, "raw_buffer", &[], ""), "raw tcp BlackHoleCluster");
    let block = shop.routes[0].virtual_hosts.last().unwrap();
    assert_eq!((block.name.as_str(), &block.domains[..]), ("block_all", &["*".to_owned()][..]));
}

#[test]
fn no_listener_takes_the_address_of_another() {
    let shop = shop();
    let addresses: BTreeSet<_> = shop.listeners.iter().map(|one| format!("{:?}", one.address)).collect();
    assert_eq!(addresses.len(), shop.listeners.len());
}

/// Envoy refuses a route configuration that names a domain twice.
#[test]
fn each_domain_belongs_to_one_host() {
    for RouteConfiguration { name, virtual_hosts, .. } in shop().routes {
        let domains: Vec<_> = virtual_hosts.iter().flat_map(|host| &host.domains).collect();
        assert_eq!(domains.len(), domains.iter().collect::<BTreeSet<_>>().len(), "{name}");
    }
}

fn context(socket: &TransportSocket) -> UpstreamTlsContext {
    let Some(ConfigType::TypedConfig(config)) = &socket.config_type else { panic!("no config") };
    config.unpack().unwrap()
}

#[test]
fn the_mesh_is_called_by_name_and_identity() {
    let shop = shop();
    let reviews = shop.cluster("outbound|9080||reviews.shop.svc.cluster.local").unwrap();
    let names: Vec<_> = reviews.transport_socket_matches.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["tlsMode-istio", "tlsMode-disabled"], "the first match wins");
    let tls = context(reviews.transport_socket_matches[0].transport_socket.as_ref().unwrap());
    assert_eq!(tls.sni, "outbound_.9080_._.reviews.shop.svc.cluster.local");
    assert_eq!(tls.max_session_keys, Some(0), "nothing is resumed");
    let common = tls.common_tls_context.unwrap();
    assert_eq!(common.alpn_protocols, ["istio-peer-exchange", "istio"]);
    let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type
    else {
        panic!("no combined context")
    };
    let sans = combined.default_validation_context.unwrap().match_typed_subject_alt_names;
    let exact: Vec<_> = sans.into_iter().map(|san| san.matcher.unwrap().match_pattern.unwrap()).collect();
    assert_eq!(exact, [MatchPattern::Exact("spiffe://cluster.local/ns/shop/sa/reviews".to_owned())]);
    // A rule's mode leaves no way around it.
    let subset = shop.cluster("outbound|9080|v1|reviews.shop.svc.cluster.local").unwrap();
    assert!(subset.transport_socket_matches.is_empty());
    assert_eq!(
        context(subset.transport_socket.as_ref().unwrap()).sni,
        "outbound_.9080_.v1_.reviews.shop.svc.cluster.local"
    );
}

#[test]
fn http2_is_offered_where_it_is_declared() {
    let shop = shop();
    let web = shop.cluster("outbound|9000||web.shop.svc.cluster.local").unwrap();
    let tls = context(web.transport_socket_matches[0].transport_socket.as_ref().unwrap());
    assert_eq!(tls.common_tls_context.unwrap().alpn_protocols, ["istio-peer-exchange", "istio", "h2"]);
}

#[test]
fn endpoints_are_marked_one_by_one() {
    let shop = shop();
    let marked = |name: &str| -> Vec<bool> {
        let assignment = shop.assignments.iter().find(|one| one.cluster_name == name).unwrap();
        let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        endpoints.map(|endpoint| endpoint.metadata.is_some()).collect()
    };
    assert_eq!(marked("outbound|9080||reviews.shop.svc.cluster.local"), [true, true]);
    assert_eq!(marked("outbound|9080||legacy.shop.svc.cluster.local"), [false], "not of the mesh");
    assert_eq!(marked("outbound|3306||db.shop.svc.cluster.local"), [false], "its port takes plaintext only");
    assert_eq!(marked("outbound|6379||cache.shop.svc.cluster.local"), [] as [bool; 0]);
}

/// Otherwise a call to one of them would leave the mesh, in plaintext.
#[test]
fn pods_of_a_headless_service_are_known_by_their_own_names() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: peers, namespace: shop}\nspec:\n  clusterIP: None\n  \
                    selector: {app: reviews}\n  ports: [{name: http, port: 8080}]\n---\n";
    let shop = std::fs::read_to_string(crate::world::path("worlds/shop.yaml")).unwrap();
    let shop = Resources::of(&world(&format!("{headless}{shop}")), "shop/web-0");
    let routes = shop.routes.iter().find(|routes| routes.name == "8080").unwrap();
    let peers = &routes.virtual_hosts[0];
    for domain in ["peers.shop.svc.cluster.local", "*.peers.shop.svc.cluster.local:8080", "*.peers"] {
        assert!(peers.domains.iter().any(|one| one == domain), "{domain} of {:?}", peers.domains);
    }
}

/// A host with a block of addresses, its rule, and something else on the same port.
fn blocks(mesh: &str) -> Resources {
    let entry = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
        )
    };
    let vault = "hosts: [vault.example], addresses: [172.20.0.0/16], resolution: STATIC, endpoints: [{address: 7.0.0.1}], \
                 ports: [{number: 9200, name: tcp, protocol: TCP}, {number: 9080, name: raw, protocol: TCP}, {number: 9300, name: any}]";
    let inner = "hosts: [inner.example], addresses: [172.20.8.0/24, 172.20.9.9], ports: [{number: 9200, name: tcp, protocol: TCP}]";
    let shared = |name: &str| {
        format!(
            "hosts: [{name}.example], addresses: [172.30.0.0/16], ports: [{{number: 9200, name: tls, protocol: TLS}}]"
        )
    };
    let entries = [
        entry("vault", vault),
        entry("inner", inner),
        entry("one", &shared("one")),
        entry("other", &shared("other")),
    ];
    let shop = std::fs::read_to_string(crate::world::path("worlds/shop.yaml")).unwrap();
    Resources::of(&world(&format!("{mesh}{shop}{}", entries.concat())), "shop/web-0")
}

#[test]
fn a_block_of_addresses_takes_connections_to_its_addresses_alone() {
    let closed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                  data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}\n---\n";
    for (mesh, unknown) in [("", "raw tcp PassthroughCluster"), (closed, "raw tcp BlackHoleCluster")] {
        let shop = blocks(mesh);
        let http = ["http/1.1"];
        let cases = [
            (("172.20.4.4", 9200, "raw_buffer", &[][..], ""), "raw tcp outbound|9200||vault.example"),
            (("172.20.4.4", 9200, "tls", &["h2"], "x.example"), "raw tcp outbound|9200||vault.example"),
            (("172.21.4.4", 9200, "raw_buffer", &[], ""), unknown),
            (("172.21.4.4", 9200, "tls", &[], "vault.example"), unknown),
            // The narrower block counts, and a single address before both.
            (("172.20.8.1", 9200, "raw_buffer", &[], ""), "raw tcp outbound|9200||inner.example"),
            (("172.20.9.9", 9200, "raw_buffer", &[], ""), "raw tcp outbound|9200||inner.example"),
            // Bytes to a block beside HTTP of others.
            (("172.20.4.4", 9080, "raw_buffer", &http, ""), "raw tcp outbound|9080||vault.example"),
            (("10.96.0.11", 9080, "raw_buffer", &http, ""), "raw http 9080"),
            // Nothing declared.
            (("172.20.4.4", 9300, "raw_buffer", &http, ""), "raw http outbound|9300||vault.example"),
            (("172.20.4.4", 9300, "raw_buffer", &["h2c"], ""), "raw http outbound|9300||vault.example"),
            (("172.20.4.4", 9300, "raw_buffer", &[], ""), "raw tcp outbound|9300||vault.example"),
            (("172.20.4.4", 9300, "tls", &http, "x.example"), "raw tcp outbound|9300||vault.example"),
            (("192.0.2.1", 9300, "raw_buffer", &http, ""), unknown),
            // Of two hosts of one block, a server name tells which one is meant.
            (("172.30.0.1", 9200, "tls", &[], "one.example"), "raw tcp outbound|9200||one.example"),
            (("172.30.0.1", 9200, "tls", &[], "other.example"), "raw tcp outbound|9200||other.example"),
            (("172.30.0.1", 9200, "raw_buffer", &[], ""), unknown),
        ];
        for ((address, port, transport, protocols, name), expected) in cases {
            let found = dial(&shop, address, port, transport, protocols, name);
            assert_eq!(found, expected, "{address}:{port} {transport} {protocols:?} {name}");
        }
    }
}

/// Else its cluster would get what is meant for them.
#[test]
fn bytes_without_a_name_lead_to_a_host_only_where_the_port_has_no_other_one() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: raw, namespace: shop}\n\
                 spec: {hosts: [raw.example], resolution: DNS, ports: [{number: 9080, name: tcp, protocol: TCP}, \
                 {number: 7777, name: tcp-a, protocol: TCP}, {number: 7778, name: any}]}\n";
    let shop = std::fs::read_to_string(crate::world::path("worlds/shop.yaml")).unwrap();
    let shop = Resources::of(&world(&format!("{shop}{entry}")), "shop/web-0");
    assert_eq!(dial(&shop, "192.0.2.1", 9080, "raw_buffer", &[], ""), "raw tcp PassthroughCluster");
    assert_eq!(
        dial(&shop, "192.0.2.1", 9080, "tls", &[], "raw.example"),
        "raw tcp outbound|9080||raw.example"
    );
    assert_eq!(dial(&shop, "192.0.2.1", 7777, "raw_buffer", &[], ""), "raw tcp outbound|7777||raw.example");
    assert_eq!(dial(&shop, "192.0.2.1", 7778, "raw_buffer", &[], ""), "raw tcp outbound|7778||raw.example");
}
