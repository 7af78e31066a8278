//! The listeners behind `virtualOutbound`, one for each address and port that services have.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

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

use super::{
    filters::{self, INSPECTION, PLAIN_HTTP, Side, chain},
    outbound::unknown_cluster,
};
use crate::{
    resource::{Generator, encode},
    sidecar::{eds::socket_address, rds, route::Route},
};

/// The address and port that a listener stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerKey {
    address: IpAddr,
    port: u16,
}

impl ListenerKey {
    /// All addresses of a port.
    pub(crate) fn any_address(port: u16) -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port }
    }

    /// The name of the listener, e.g. `0.0.0.0_80`.
    pub(crate) fn name(&self) -> String {
        format!("{}_{}", self.address, self.port)
    }
}

/// What a host contributes to a listener.
#[derive(PartialEq, Eq)]
pub(crate) enum ListenerPart<'a> {
    /// To the listener of all addresses of a port.
    AnyAddress(SharedPort<'a>),
    /// To the listener of its own address.
    OwnAddress(Carries),
}

/// What a host without an address of its own contributes to the listener of a port.
#[derive(PartialEq, Eq, Default)]
pub(crate) struct SharedPort<'a> {
    /// It has routes.
    http: bool,
    /// Its routes lead to hosts that are looked up when they are called.
    dynamic: bool,
    /// Where TLS of the application leads that names it.
    server_name: Option<(&'a str, ByServerName)>,
    /// Where other bytes lead, which name no host.
    bytes: Option<String>,
}

/// Where a server name leads.
#[derive(PartialEq, Eq, Hash)]
struct ByServerName {
    cluster: String,
    /// The port at which the name is looked up and dialled, if its cluster does not know where it is.
    lookup: Option<u16>,
}

/// What the listener of one address does with a connection.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Carries {
    /// Bytes to a cluster.
    Bytes { cluster: String },
    /// HTTP or bytes, found out from the first bytes, to a cluster.
    Either {
        cluster: String,
        /// Whether a sidecar of the mesh may be at the other end, which must be told what comes.
        mesh: bool,
    },
}

/// What a host contributes to listeners.
pub(crate) fn parts(service: &OutboundService) -> Vec<(ListenerKey, ListenerPart<'_>)> {
    let mut parts = Vec::new();
    for cluster in rds::whole(service) {
        let port = cluster.port.number;
        if let Some(shared) = SharedPort::of(service, cluster) {
            parts.push((ListenerKey::any_address(port), ListenerPart::AnyAddress(shared)));
        }
        if !cluster.port.protocol.is_http() {
            let own = addresses(service, cluster).into_iter().map(|address| {
                (ListenerKey { address, port }, ListenerPart::OwnAddress(Carries::of(cluster)))
            });
            parts.extend(own);
        }
    }
    parts
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

impl<'a> SharedPort<'a> {
    /// `None` if the cluster is reached by its address only.
    fn of(service: &'a OutboundService, cluster: &OutboundCluster) -> Option<Self> {
        let http = rds::is_routed(service, cluster);
        let named = !cluster.port.protocol.is_http() && rds::is_addressless(service);
        if !http && !named {
            return None;
        }
        let dynamic = cluster.discovery == Discovery::DynamicForwardProxy;
        let mut shared = Self { http, dynamic: http && dynamic, server_name: None, bytes: None };
        if named {
            // Envoy takes wildcards of whole labels only.
            if service.host.wildcard_suffix().is_none_or(|suffix| suffix.starts_with('.')) {
                let lookup = dynamic.then_some(match cluster.port.target {
                    TargetPort::Number(number) => number,
                    TargetPort::Named(_) => cluster.port.number,
                });
                let to = ByServerName { cluster: cluster.name(), lookup };
                shared.server_name = Some((service.host.as_str(), to));
            }
            // Bytes without a name give nothing to look up.
            shared.bytes = (!dynamic).then(|| cluster.name());
        }
        Some(shared)
    }
}

/// Inputs of a listener that does not bind: `virtualOutbound` hands it the connections to its address.
#[derive(Hash)]
pub(crate) struct ServiceListener<'a> {
    key: ListenerKey,
    serves: Serves<'a>,
    unknown_hosts: OutboundTrafficPolicy,
    access_log_file: Option<&'a Name>,
}

/// The traffic of a listener.
#[derive(Hash)]
enum Serves<'a> {
    /// All addresses of a port: the name that a connection asks for decides.
    AnyHost(AnyHost<'a>),
    /// One address.
    OneHost(&'a Carries),
}

/// The hosts of a port that have no address of their own. What asks for none of them goes where unknown hosts go, so
/// that no host takes the traffic of another.
#[derive(Default, Hash)]
struct AnyHost<'a> {
    /// HTTP, by the routes of the port.
    http: bool,
    /// Some of these routes lead to hosts that are looked up when they are called.
    dynamic: bool,
    /// TLS of the application, by server name.
    server_names: BTreeMap<&'a str, &'a ByServerName>,
    /// Other bytes, which name no host: the cluster of the only host that can be meant.
    bytes: Vec<&'a str>,
}

impl<'a> ServiceListener<'a> {
    /// Envoy refuses a second listener of the same address: the first host counts.
    pub(crate) fn new(key: ListenerKey, parts: &[&'a ListenerPart<'_>], outbound: &'a Outbound) -> Self {
        let own = parts.iter().find_map(|part| match part {
            ListenerPart::OwnAddress(carries) => Some(carries),
            ListenerPart::AnyAddress(_) => None,
        });
        Self {
            key,
            serves: own.map_or_else(|| Serves::AnyHost(AnyHost::new(parts)), Serves::OneHost),
            unknown_hosts: outbound.unknown_hosts,
            access_log_file: outbound.access_log_file.as_ref(),
        }
    }
}

impl<'a> AnyHost<'a> {
    fn new(parts: &[&'a ListenerPart<'_>]) -> Self {
        let mut hosts = Self::default();
        for part in parts {
            let ListenerPart::AnyAddress(shared) = part else { continue };
            hosts.http |= shared.http;
            hosts.dynamic |= shared.dynamic;
            hosts.server_names.extend(shared.server_name.as_ref().map(|(name, to)| (*name, to)));
            hosts.bytes.extend(shared.bytes.as_deref());
        }
        hosts
    }

    fn chains(&self, listener: &ServiceListener<'_>) -> (Vec<FilterChain>, Option<FilterChain>) {
        let plaintext = |alpn| matching("raw_buffer", alpn, None);
        let http = || {
            let routes = listener.http(routes_of_port(listener.key.port), None, self.dynamic);
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
        let name = self.key.name();
        let listener_filters = self.inspectors();
        let (filter_chains, default_filter_chain) = self.chains();
        let listener = Listener {
            name: name.clone(),
            address: Some(socket_address(&self.key.address.to_string(), self.key.port)),
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
    /// What must be known before a chain is chosen.
    fn inspectors(&self) -> Vec<ListenerFilter> {
        let (tls, http) = match &self.serves {
            Serves::OneHost(Carries::Bytes { .. }) => (false, false),
            Serves::OneHost(Carries::Either { .. }) => (false, true),
            // Always the same, so that a host that comes or goes closes no connection of the others.
            Serves::AnyHost(_) => (true, true),
        };
        let tls = tls.then(filters::tls_inspector);
        tls.into_iter().chain(http.then(filters::http_inspector)).collect()
    }

    fn chains(&self) -> (Vec<FilterChain>, Option<FilterChain>) {
        match &self.serves {
            Serves::AnyHost(hosts) => hosts.chains(self),
            Serves::OneHost(Carries::Bytes { cluster }) => {
                (vec![chain("tcp", None, self.tcp(cluster))], None)
            }
            Serves::OneHost(Carries::Either { cluster, mesh }) => {
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
        let stat_prefix = format!("outbound_{}", self.key.name());
        filters::http(Side::Outbound, &stat_prefix, routes, alpn, dynamic, self.access_log_file)
    }

    fn tcp(&self, cluster: &str) -> Filter {
        filters::tcp(cluster, self.access_log_file)
    }
}

fn matching(transport: &str, protocols: &[&str], server_name: Option<&str>) -> FilterChainMatch {
    FilterChainMatch {
        server_names: server_name.map(str::to_owned).into_iter().collect(),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        ..Default::default()
    }
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
        routes: vec![Route::to_cluster(cluster).encode()],
        ..Default::default()
    };
    RouteSpecifier::RouteConfig(RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![all],
        validate_clusters: Some(false),
        ..Default::default()
    })
}
