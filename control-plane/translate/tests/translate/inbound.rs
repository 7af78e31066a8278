//! `virtualInbound`: POLICY.md I2 cell by cell, and what a switch of mode must not touch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    settings::{Inbound, InboundPort, Outbound, WorkloadTls},
    trace::Trace,
};
use eastwest_model::{SpiffeId, TrustDomain, mesh::TlsVersion, policy::MutualTlsMode, service::Protocol};
use eastwest_proto::{
    Message,
    envoy::{
        config::{
            core::v3::{address::Address, socket_address::PortSpecifier, transport_socket::ConfigType},
            listener::v3::{FilterChain, Listener},
        },
        extensions::transport_sockets::tls::v3::{
            DownstreamTlsContext, common_tls_context::ValidationContextType,
            downstream_tls_context::SessionTicketKeysType,
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
};
use eastwest_translate::{Audience, ProxyFacts};

use crate::world::{Connection, Resources, inbound_outcome, outcome, read, settings};

const MODES: [MutualTlsMode; 3] = [MutualTlsMode::Strict, MutualTlsMode::Permissive, MutualTlsMode::Disable];
/// HTTP, TCP, undeclared, and a port that no service lists.
const KINDS: [Option<Protocol>; 4] =
    [Some(Protocol::Http), Some(Protocol::Tcp), Some(Protocol::Undeclared), None];

/// Traffic (transport, application protocols) and what becomes of it: three columns a mode, in the order of
/// [`MODES`], for a port of HTTP, TCP and undeclared protocol.
#[rustfmt::skip]
const TABLE: &[(&str, &[&str], [&str; 9])] = &[
    ("tls", &["istio-http/1.1"],
        ["mtls http", "mtls tcp", "mtls http", "mtls http", "mtls tcp", "mtls http", "refused",  "raw tcp",  "raw tcp"]),
    ("tls", &["istio-h2"],
        ["mtls http", "mtls tcp", "mtls http", "mtls http", "mtls tcp", "mtls http", "refused",  "raw tcp",  "raw tcp"]),
    ("tls", &["istio-peer-exchange", "istio"],
        ["mtls http", "mtls tcp", "mtls tcp", "mtls http", "mtls tcp", "mtls tcp", "refused",  "raw tcp",  "raw tcp"]),
    ("tls", &["istio-peer-exchange", "istio", "h2"],
        ["mtls http", "mtls tcp", "mtls tcp", "mtls http", "mtls tcp", "mtls tcp", "refused",  "raw tcp",  "raw tcp"]),
    ("tls", &[],
        ["mtls http", "mtls tcp", "mtls tcp", "refused",  "raw tcp",  "raw tcp",  "refused",  "raw tcp",  "raw tcp"]),
    ("tls", &["h2", "http/1.1"],
        ["mtls http", "mtls tcp", "mtls tcp", "refused",  "raw tcp",  "raw tcp",  "refused",  "raw tcp",  "raw tcp"]),
    ("raw_buffer", &["http/1.0"],
        ["refused",  "refused",  "refused",  "raw http", "raw tcp",  "raw http", "raw http", "raw tcp",  "raw http"]),
    ("raw_buffer", &["http/1.1"],
        ["refused",  "refused",  "refused",  "raw http", "raw tcp",  "raw http", "raw http", "raw tcp",  "raw http"]),
    ("raw_buffer", &["h2c"],
        ["refused",  "refused",  "refused",  "raw http", "raw tcp",  "raw http", "raw http", "raw tcp",  "raw http"]),
    ("raw_buffer", &[],
        ["refused",  "refused",  "refused",  "raw http", "raw tcp",  "raw tcp",  "raw http", "raw tcp",  "raw tcp"]),
];

fn inbound(mode: MutualTlsMode, ports: &[(u16, MutualTlsMode, Option<Protocol>)]) -> Inbound {
    let port = |(number, mode, listed): &(u16, MutualTlsMode, Option<Protocol>)| {
        let trace = Trace::default();
        let named_by_policy = listed.is_none();
        (*number, InboundPort { mode: *mode, policy: None, trace, named_by_policy, listed: *listed })
    };
    let domain = |text| TrustDomain::parse(text).unwrap();
    Inbound {
        mode,
        policy: None,
        trace: Trace::default(),
        ports: ports.iter().map(port).collect(),
        trust_domains: vec![domain("cluster.local"), domain("old.example")],
        min_tls_version: TlsVersion::V1_2,
        access_log_file: None,
        access: Arc::default(),
    }
}

/// Inspection in line, and behind `virtualInbound`.
const SHAPES: [bool; 2] = [false, true];

fn resources(inbound: Inbound) -> Resources {
    shaped(inbound, false)
}

fn shaped(inbound: Inbound, internal_listeners: bool) -> Resources {
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap();
    let workload = "shop/web-0".parse().unwrap();
    let outbound = Arc::new(Outbound::default());
    let facts = ProxyFacts { internal_listeners, ..ProxyFacts::usual(Audience::Envoy) };
    Resources::for_proxy(
        &WorkloadTls { workload, identity, inbound: Arc::new(inbound), outbound, warnings: Vec::new() },
        facts,
    )
}

/// Each inbound listener of both shapes.
fn inbound_listeners(inbound: &Inbound) -> Vec<Listener> {
    let of = |internal| shaped(inbound.clone(), internal).listeners;
    let listeners = SHAPES.into_iter().flat_map(of);
    let inbound: Vec<_> = listeners.filter(|listener| !listener.name.contains("Outbound")).collect();
    assert_eq!(inbound.len(), 4, "one in line, three where two are behind");
    inbound
}

fn chains(listener: &Listener) -> BTreeMap<&str, &FilterChain> {
    let chains: BTreeMap<_, _> =
        listener.filter_chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
    assert_eq!(chains.len(), listener.filter_chains.len(), "names must be unique");
    chains
}

#[test]
fn every_cell_of_the_table() {
    for (m, mode) in MODES.into_iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            // The mode of the workload differs, so that the passthrough chains would show.
            let other = MODES[(m + 1) % 3];
            let shapes = SHAPES.map(|internal| shaped(inbound(other, &[(8080, mode, kind)]), internal));
            for (resources, (transport, protocols, expected)) in
                shapes.iter().flat_map(|shape| TABLE.iter().map(move |row| (shape, row)))
            {
                let connection = Connection { port: 8080, transport, protocols, ..Connection::default() };
                let expected = match (expected[3 * m + k.min(2)], kind) {
                    ("refused", _) => "refused".to_owned(),
                    (how, Some(_)) => format!("{how} inbound|8080||"),
                    (how, None) => format!("{how} InboundPassthroughCluster"),
                };
                let found = inbound_outcome(resources, &connection);
                assert_eq!(found, expected, "{mode} {kind:?} {transport} {protocols:?}");
            }
        }
    }
}

#[test]
fn ports_without_a_mode_follow_the_workload() {
    for ((m, mode), internal) in MODES.into_iter().enumerate().flat_map(|m| SHAPES.map(|shape| (m, shape))) {
        let ports = [(8080, MODES[(m + 1) % 3], Some(Protocol::Http)), (15006, mode, Some(Protocol::Tcp))];
        let resources = shaped(inbound(mode, &ports), internal);
        for (transport, protocols, expected) in TABLE {
            let connection = Connection { port: 9999, transport, protocols, ..Connection::default() };
            let expected = match expected[3 * m + 2] {
                "refused" => "refused".to_owned(),
                how => format!("{how} InboundPassthroughCluster"),
            };
            assert_eq!(
                inbound_outcome(&resources, &connection),
                expected,
                "{mode} {transport} {protocols:?}"
            );
        }
        for transport in ["raw_buffer", "tls"] {
            let own = Connection { port: 15006, transport, protocols: &[], ..Connection::default() };
            assert_eq!(
                inbound_outcome(&resources, &own),
                "raw tcp BlackHoleCluster",
                "would come back for ever"
            );
        }
    }
}

/// Every mode and protocol of two ports and every mode of the workload.
fn all_combinations() -> impl Iterator<Item = Inbound> {
    let port = |number| {
        MODES.into_iter().flat_map(move |mode| KINDS.into_iter().map(move |kind| (number, mode, kind)))
    };
    MODES.into_iter().flat_map(move |mode| {
        port(8080).flat_map(move |one| port(9090).map(move |other| inbound(mode, &[one, other])))
    })
}

/// ENVOY.md E18: a difference here closes every connection.
#[test]
fn listener_fields_depend_on_no_mode() {
    let mut seen = BTreeSet::new();
    for listener in all_combinations().flat_map(|inbound| inbound_listeners(&inbound)) {
        let listener = Listener { filter_chains: Vec::new(), ..listener };
        seen.insert(listener.encode_to_vec());
    }
    assert_eq!(seen.len(), 4, "one for each listener");
}

/// Envoy refuses the whole listener otherwise (ENVOY.md E21).
#[test]
fn no_two_chains_match_the_same() {
    for listener in all_combinations().flat_map(|inbound| inbound_listeners(&inbound)) {
        let mut matches = BTreeSet::new();
        for chain in chains(&listener).values() {
            let found = chain.filter_chain_match.clone().unwrap();
            let any = [String::new()];
            let protocols =
                if found.application_protocols.is_empty() { &any[..] } else { &found.application_protocols };
            for protocol in protocols {
                let key = (found.destination_port, found.transport_protocol.clone(), protocol.clone());
                assert!(matches.insert(key), "{} matches what another chain matches", chain.name);
            }
        }
    }
}

/// A connection lives as long as its chain has the same name and bytes; one that was handed over has two chains.
#[test]
fn the_chains_of_the_mesh_are_the_same_in_strict_and_permissive() {
    for (kind, internal) in KINDS.into_iter().flat_map(|kind| SHAPES.map(|shape| (kind, shape))) {
        let of = |mode| shaped(inbound(mode, &[(8080, mode, kind)]), internal);
        let (strict, permissive) = (of(MutualTlsMode::Strict), of(MutualTlsMode::Permissive));
        if internal {
            let front = |resources: &Resources| resources.listener("virtualInbound").unwrap().encode_to_vec();
            assert_eq!(front(&strict), front(&permissive), "the first listener does not even change");
        }
        let inspecting = if internal { "inbound-inspected" } else { "virtualInbound" };
        let (strict, permissive) = (strict.listener(inspecting), permissive.listener(inspecting));
        let (strict, permissive) = (chains(strict.unwrap()), chains(permissive.unwrap()));
        let mesh: Vec<_> = strict.keys().filter(|name| name.contains("-mesh")).collect();
        assert!(mesh.len() >= 2, "{mesh:?}");
        for name in mesh {
            assert_eq!(strict[name].encode_to_vec(), permissive[name].encode_to_vec(), "{name}");
        }
    }
}

#[test]
fn a_port_leaves_the_chains_of_another_alone() {
    let of = |mode, kind| {
        let others = (9090, MutualTlsMode::Strict, Some(Protocol::Http));
        inbound_listeners(&inbound(MutualTlsMode::Strict, &[(8080, mode, kind), others]))
    };
    let before = of(MutualTlsMode::Strict, Some(Protocol::Tcp));
    for (mode, kind) in MODES.into_iter().flat_map(|mode| KINDS.map(|kind| (mode, kind))) {
        for (before, after) in before.iter().zip(of(mode, kind)) {
            let after = chains(&after);
            for (name, chain) in chains(before).iter().filter(|(name, _)| !name.contains("-8080-")) {
                assert_eq!(chain.encode_to_vec(), after[name].encode_to_vec(), "{}: {name}", before.name);
            }
        }
    }
}

/// A switch of the whole workload leaves ports with modes of their own alone.
#[test]
fn the_mode_of_the_workload_leaves_ports_with_their_own_alone() {
    let of = |mode| inbound_listeners(&inbound(mode, &[(8080, MutualTlsMode::Strict, Some(Protocol::Http))]));
    let before = of(MutualTlsMode::Strict);
    for mode in MODES {
        for (before, after) in before.iter().zip(of(mode)) {
            let after = chains(&after);
            for (name, chain) in chains(before).iter().filter(|(name, _)| name.contains("-8080-")) {
                assert_eq!(chain.encode_to_vec(), after[name].encode_to_vec(), "{}: {name}", before.name);
            }
        }
    }
}

/// Nothing is inspected where there is nothing to find out, and hardly waited for where it does not decide about TLS.
#[test]
fn plaintext_ports_do_not_wait_where_inspection_is_behind() {
    let disable = MutualTlsMode::Disable;
    let found = shaped(inbound(disable, &[(9090, disable, Some(Protocol::Tcp))]), true);
    let front = found.listener("virtualInbound").unwrap();
    let filters: Vec<_> = front.listener_filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(filters, ["envoy.filters.listener.original_dst"]);
    let declared =
        Connection { port: 9090, transport: "raw_buffer", protocols: &[], ..Connection::default() };
    assert_eq!(outcome(front, &declared), "raw tcp inbound|9090||", "served by the first listener");
    let undeclared = Connection { port: 9999, ..declared };
    assert_eq!(outcome(front, &undeclared), "raw tcp inbound-plaintext");
    let wait = found.listener("inbound-plaintext").unwrap().listener_filters_timeout.unwrap();
    assert!(wait.seconds == 0 && wait.nanos <= 100_000_000, "{wait:?}");
    for cluster in ["inbound-inspected", "inbound-plaintext"] {
        assert!(found.cluster(cluster).is_some(), "{cluster}");
    }
}

#[test]
fn peers_prove_a_trust_domain_and_resume_nothing() {
    let ports = [(8080, MutualTlsMode::Permissive, Some(Protocol::Http))];
    let listeners = inbound_listeners(&inbound(MutualTlsMode::Strict, &ports));
    let chains = listeners.iter().flat_map(|listener| &listener.filter_chains);
    let mut secured = 0;
    for chain in chains.filter(|chain| chain.transport_socket.is_some()) {
        secured += 1;
        let Some(ConfigType::TypedConfig(config)) = &chain.transport_socket.as_ref().unwrap().config_type
        else {
            panic!()
        };
        let context: DownstreamTlsContext = config.unpack().unwrap();
        assert_eq!(context.require_client_certificate, Some(true), "{}", chain.name);
        assert!(context.disable_stateful_session_resumption);
        assert_eq!(
            context.session_ticket_keys_type,
            Some(SessionTicketKeysType::DisableStatelessSessionResumption(true))
        );
        let Some(ValidationContextType::CombinedValidationContext(combined)) =
            context.common_tls_context.unwrap().validation_context_type
        else {
            panic!("{}: no combined context", chain.name)
        };
        assert_eq!(combined.validation_context_sds_secret_config.unwrap().name, "ROOTCA");
        let names = combined.default_validation_context.unwrap().match_typed_subject_alt_names;
        let patterns: Vec<_> =
            names.into_iter().map(|name| name.matcher.unwrap().match_pattern.unwrap()).collect();
        let prefix = |text: &str| MatchPattern::Prefix(text.to_owned());
        assert_eq!(patterns, [prefix("spiffe://cluster.local/"), prefix("spiffe://old.example/")]);
    }
    assert_eq!(secured, 2 * (1 + 3), "in each shape the port's mesh chain, and three for all other ports");
}

#[test]
fn listed_ports_have_clusters_that_dial_the_application_unseen() {
    let found = resources(inbound(
        MutualTlsMode::Strict,
        &[(8080, MutualTlsMode::Strict, Some(Protocol::Http)), (9090, MutualTlsMode::Disable, None)],
    ));
    assert!(found.cluster("inbound|9090||").is_none(), "no service lists it");
    for name in ["inbound|8080||", "InboundPassthroughCluster"] {
        let cluster = found.cluster(name).unwrap();
        let source = cluster.upstream_bind_config.as_ref().unwrap().source_address.as_ref().unwrap();
        assert_eq!(source.address, "127.0.0.6", "{name}");
    }
}

#[test]
fn listeners_are_where_the_redirection_sends_connections() {
    let shop = settings(&read("shop.yaml"), "shop/web-0");
    // One of the ports is a port of services too.
    let facts = ProxyFacts { inbound_port: 16006, outbound_port: 443, ..ProxyFacts::usual(Audience::Envoy) };
    let found = Resources::for_proxy(&shop, facts);
    let port = |name: &str| {
        let address = found.listener(name).unwrap().address.clone().unwrap().address.unwrap();
        let Address::SocketAddress(socket) = address else { panic!("{name}: no socket") };
        socket.port_specifier.unwrap()
    };
    assert_eq!(port("virtualInbound"), PortSpecifier::PortValue(16006));
    assert_eq!(port("virtualOutbound"), PortSpecifier::PortValue(443));
    assert!(found.listener("0.0.0.0_443").is_none(), "Envoy refuses a second listener of the same address");
    for (name, port) in [("virtualInbound", 16006), ("virtualOutbound", 443)] {
        let itself = Connection { port, transport: "raw_buffer", protocols: &[], ..Connection::default() };
        assert_eq!(outcome(found.listener(name).unwrap(), &itself), "raw tcp BlackHoleCluster");
    }
}
