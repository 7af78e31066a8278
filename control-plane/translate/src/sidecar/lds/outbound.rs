//! `virtualOutbound` and the listeners behind it, one for each address and port that services have.

use std::{collections::BTreeMap, net::IpAddr};

use eastwest_engine::settings::{
    ClientTlsSetting, Discovery, Endpoint, EndpointAddress, Outbound, OutboundCluster, OutboundService,
};
use eastwest_model::{
    Name,
    mesh::OutboundTrafficPolicy,
    service::{Protocol, TargetPort},
};
use eastwest_proto::envoy::{
    config::{
        core::v3::{
            AggregatedConfigSource, ApiVersion, ConfigSource, TrafficDirection,
            config_source::ConfigSourceSpecifier,
        },
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::{
        Rds, http_connection_manager::RouteSpecifier,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use super::filters::{self, INSPECTION, PLAIN_HTTP, Side};
use crate::{
    resource::{Generator, encode},
    sidecar::{
        eds::socket_address,
        names::{BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, VIRTUAL_OUTBOUND},
        rds,
    },
};

/// Every address.
const ANY: &str = "0.0.0.0";

/// Inputs of `virtualOutbound`.
#[derive(Hash)]
pub(crate) struct OutboundInputs<'a> {
    listener_port: u16,
    unknown_hosts: OutboundTrafficPolicy,
    access_log_file: Option<&'a Name>,
}

impl<'a> OutboundInputs<'a> {
    pub(crate) fn new(outbound: &'a Outbound, listener_port: u16) -> Self {
        let access_log_file = outbound.access_log_file.as_ref();
        Self { listener_port, unknown_hosts: outbound.unknown_hosts, access_log_file }
    }
}

impl Generator for OutboundInputs<'_> {
    const KIND: &'static str = "virtualOutbound";

    fn generate(&self) -> EncodedResource {
        let tcp = |cluster| filters::tcp(cluster, self.access_log_file);
        let to_us =
            FilterChainMatch { destination_port: Some(self.listener_port.into()), ..Default::default() };
        let own_port = chain("virtualOutbound-blackhole", Some(to_us), tcp(BLACK_HOLE_CLUSTER));
        let unknown = chain("virtualOutbound-catchall-tcp", None, tcp(unknown_cluster(self.unknown_hosts)));
        let listener = Listener {
            name: VIRTUAL_OUTBOUND.to_owned(),
            address: Some(socket_address(ANY, self.listener_port)),
            use_original_dst: Some(true),
            filter_chains: vec![own_port, unknown],
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, VIRTUAL_OUTBOUND, &listener)
    }
}

fn unknown_cluster(policy: OutboundTrafficPolicy) -> &'static str {
    match policy {
        OutboundTrafficPolicy::AllowAny => PASSTHROUGH_CLUSTER,
        OutboundTrafficPolicy::RegistryOnly => BLACK_HOLE_CLUSTER,
    }
}

/// Inputs of a listener that does not bind: `virtualOutbound` hands it the connections to its address.
#[derive(Hash)]
pub(crate) struct ServiceListener<'a> {
    address: String,
    port: u16,
    carries: Carries,
    unknown_hosts: OutboundTrafficPolicy,
    access_log_file: Option<&'a Name>,
}

/// What the listener does with a connection.
#[derive(Hash)]
enum Carries {
    /// All addresses of a port: the name that a connection asks for decides.
    AnyHost(AnyHost),
    /// One address: bytes to a cluster.
    Bytes { cluster: String },
    /// One address: HTTP or bytes, found out from the first bytes, to a cluster.
    Either {
        cluster: String,
        /// Whether a sidecar of the mesh may be at the other end, which must be told what comes.
        mesh: bool,
    },
}

/// The hosts of a port that have no address of their own. What asks for none of them goes where unknown hosts go, so
/// that no host takes the traffic of another.
#[derive(Default, Hash)]
struct AnyHost {
    /// HTTP, by the routes of the port.
    http: bool,
    /// Some of these routes lead to hosts that are looked up when they are called.
    dynamic: bool,
    /// TLS of the application, by server name.
    server_names: BTreeMap<String, ByServerName>,
    /// Other bytes, which name nobody: the cluster of the only host that can be meant.
    bytes: Vec<String>,
}

/// Where a server name leads.
#[derive(Hash)]
struct ByServerName {
    cluster: String,
    /// The port at which the name is looked up and dialled, if its cluster does not know where it is.
    lookup: Option<u16>,
}

/// The listeners of all services. Envoy refuses a second one of the same address: the first by host name counts.
pub(crate) fn listeners(outbound: &Outbound) -> Vec<ServiceListener<'_>> {
    let mut any: BTreeMap<u16, AnyHost> = BTreeMap::new();
    let mut own = BTreeMap::new();
    for service in outbound.services.values() {
        for cluster in rds::whole(service) {
            let port = cluster.port.number;
            if rds::is_routed(service, cluster) {
                let hosts = any.entry(port).or_default();
                hosts.http = true;
                hosts.dynamic |= cluster.discovery == Discovery::DynamicForwardProxy;
            }
            if cluster.port.protocol.is_http() {
                continue;
            }
            if rds::is_addressless(service) {
                any.entry(port).or_default().add(service, cluster);
            }
            for address in addresses(service, cluster) {
                own.entry((address.to_string(), port)).or_insert_with(|| Carries::of(cluster));
            }
        }
    }
    let any = any.into_iter().map(|(port, hosts)| ((ANY.to_owned(), port), Carries::AnyHost(hosts)));
    any.chain(own)
        .map(|((address, port), carries)| ServiceListener {
            address,
            port,
            carries,
            unknown_hosts: outbound.unknown_hosts,
            access_log_file: outbound.access_log_file.as_ref(),
        })
        .collect()
}

/// Where clients dial: the virtual addresses, else, for a headless service, its pods.
fn addresses(service: &OutboundService, cluster: &OutboundCluster) -> Vec<IpAddr> {
    let socket = |endpoint: &Endpoint| match &endpoint.address {
        EndpointAddress::Socket(socket) => Some(socket.ip()),
        EndpointAddress::Dns { .. } => None,
    };
    match service.addresses.is_empty() && !rds::is_addressless(service) {
        true => cluster.endpoints.iter().filter_map(socket).collect(),
        false => service.addresses.clone(),
    }
}

impl Carries {
    fn of(cluster: &OutboundCluster) -> Self {
        let name = cluster.name();
        match cluster.port.protocol {
            Protocol::Undeclared => {
                let mesh =
                    matches!(cluster.tls, ClientTlsSetting::Auto(_) | ClientTlsSetting::IstioMutual(_));
                Self::Either { cluster: name, mesh }
            }
            _ => Self::Bytes { cluster: name },
        }
    }
}

impl AnyHost {
    fn add(&mut self, service: &OutboundService, cluster: &OutboundCluster) {
        let host = service.host.as_str();
        let dynamic = cluster.discovery == Discovery::DynamicForwardProxy;
        // Envoy takes wildcards of whole labels only.
        if service.host.wildcard_suffix().is_none_or(|suffix| suffix.starts_with('.')) {
            let lookup = dynamic.then_some(match cluster.port.target {
                TargetPort::Number(number) => number,
                TargetPort::Named(_) => cluster.port.number,
            });
            self.server_names.insert(host.to_owned(), ByServerName { cluster: cluster.name(), lookup });
        }
        // Bytes without a name give nothing to look up.
        if !dynamic {
            self.bytes.push(cluster.name());
        }
    }

    fn chains(&self, listener: &ServiceListener<'_>) -> (Vec<FilterChain>, Option<FilterChain>) {
        let plaintext = |alpn| matching("raw_buffer", alpn, None);
        let http = || {
            let routes = listener.http(routes_of_port(listener.port), None, self.dynamic);
            chain("http", Some(plaintext(&PLAIN_HTTP)), routes)
        };
        let by_name = self.server_names.iter().map(|(host, to)| {
            let mut chain = chain(host, Some(matching("tls", &[], Some(host))), listener.tcp(&to.cluster));
            chain.filters.splice(..0, to.lookup.map(filters::server_name_lookup));
            chain
        });
        let bytes = match &self.bytes[..] {
            [only] => Some(chain("tcp", Some(plaintext(&[])), listener.tcp(only))),
            _ => None,
        };
        let unknown = chain("unknown", None, listener.tcp(unknown_cluster(listener.unknown_hosts)));
        (self.http.then(http).into_iter().chain(by_name).chain(bytes).collect(), Some(unknown))
    }
}

impl Generator for ServiceListener<'_> {
    const KIND: &'static str = "service listener";

    fn generate(&self) -> EncodedResource {
        let name = self.name();
        let listener_filters = self.inspectors();
        let (filter_chains, default_filter_chain) = self.chains();
        let listener = Listener {
            name: name.clone(),
            address: Some(socket_address(&self.address, self.port)),
            bind_to_port: Some(false),
            filter_chains,
            default_filter_chain,
            listener_filters_timeout: (!listener_filters.is_empty()).then_some(INSPECTION),
            continue_on_listener_filters_timeout: !listener_filters.is_empty(),
            listener_filters,
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, &name, &listener)
    }
}

impl ServiceListener<'_> {
    /// The name of the resource.
    pub(crate) fn name(&self) -> String {
        format!("{}_{}", self.address, self.port)
    }

    /// What must be known before a chain is chosen.
    fn inspectors(&self) -> Vec<ListenerFilter> {
        let (tls, http) = match &self.carries {
            Carries::Bytes { .. } => (false, false),
            Carries::Either { .. } => (false, true),
            // Always the same, so that a host that comes or goes closes no connection of the others.
            Carries::AnyHost(_) => (true, true),
        };
        let tls = tls.then(filters::tls_inspector);
        tls.into_iter().chain(http.then(filters::http_inspector)).collect()
    }

    fn chains(&self) -> (Vec<FilterChain>, Option<FilterChain>) {
        match &self.carries {
            Carries::Bytes { cluster } => (vec![chain("tcp", None, self.tcp(cluster))], None),
            Carries::AnyHost(hosts) => hosts.chains(self),
            Carries::Either { cluster, mesh } => {
                let http = |name, found: &[&str], alpn: &'static str| {
                    let filter = self.http(one_cluster(cluster), mesh.then_some(alpn), false);
                    chain(name, Some(matching("", found, None)), filter)
                };
                let http1 = http("http/1.1", &PLAIN_HTTP[..2], "istio-http/1.1");
                let http2 = http("h2c", &PLAIN_HTTP[2..], "istio-h2");
                (vec![http1, http2], Some(chain("tcp", None, self.tcp(cluster))))
            }
        }
    }

    fn http(&self, routes: RouteSpecifier, alpn: Option<&str>, dynamic: bool) -> Filter {
        let stat_prefix = format!("outbound_{}_{}", self.address, self.port);
        filters::http(Side::Outbound, &stat_prefix, routes, alpn, dynamic, self.access_log_file)
    }

    fn tcp(&self, cluster: &str) -> Filter {
        filters::tcp(cluster, self.access_log_file)
    }
}

fn matching(transport: &str, protocols: &[&str], server_name: Option<&String>) -> FilterChainMatch {
    FilterChainMatch {
        server_names: server_name.into_iter().cloned().collect(),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        ..Default::default()
    }
}

fn chain(name: &str, filter_chain_match: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain { name: name.to_owned(), filter_chain_match, filters: vec![filter], ..Default::default() }
}

fn routes_of_port(port: u16) -> RouteSpecifier {
    let source = ConfigSource {
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
    };
    RouteSpecifier::Rds(Rds { config_source: Some(source), route_config_name: port.to_string() })
}

fn one_cluster(cluster: &str) -> RouteSpecifier {
    let all = VirtualHost {
        name: "outbound".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![rds::to_cluster(cluster, true)],
        ..Default::default()
    };
    RouteSpecifier::RouteConfig(RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![all],
        validate_clusters: Some(false),
        ..Default::default()
    })
}
