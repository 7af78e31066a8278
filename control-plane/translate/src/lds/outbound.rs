//! `virtualOutbound` and the listeners behind it, one for each address and port that services have.

use std::collections::BTreeMap;

use eastwest_engine::settings::{
    ClientTlsSetting, Discovery, EndpointAddress, Outbound, OutboundCluster, OutboundService,
};
use eastwest_model::{Name, mesh::OutboundTrafficPolicy, service::Protocol};
use eastwest_proto::envoy::{
    config::{
        core::v3::{
            AggregatedConfigSource, ApiVersion, ConfigSource, TrafficDirection,
            config_source::ConfigSourceSpecifier,
        },
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::{
        Rds, http_connection_manager::RouteSpecifier,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use super::filters::{self, INSPECTION, Side};
use crate::{
    eds::socket_address,
    names::{BLACK_HOLE_CLUSTER, OUTBOUND_PORT, PASSTHROUGH_CLUSTER, VIRTUAL_OUTBOUND},
    rds,
    resource::{Generator, encode},
};

/// Every address.
const ANY: &str = "0.0.0.0";

/// Inputs of `virtualOutbound`.
#[derive(Hash)]
pub(crate) struct VirtualOutbound<'a> {
    pub(crate) unknown_hosts: OutboundTrafficPolicy,
    pub(crate) access_log_file: Option<&'a Name>,
}

impl Generator for VirtualOutbound<'_> {
    const KIND: &'static str = "virtualOutbound";

    fn generate(&self) -> EncodedResource {
        let own_port = FilterChain {
            name: "virtualOutbound-blackhole".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(OUTBOUND_PORT.into()),
                ..Default::default()
            }),
            filters: vec![filters::tcp(BLACK_HOLE_CLUSTER, self.access_log_file)],
            ..Default::default()
        };
        let unknown = FilterChain {
            name: "virtualOutbound-catchall-tcp".to_owned(),
            filters: vec![filters::tcp(unknown_cluster(self.unknown_hosts), self.access_log_file)],
            ..Default::default()
        };
        let listener = Listener {
            name: VIRTUAL_OUTBOUND.to_owned(),
            address: Some(socket_address(ANY, OUTBOUND_PORT)),
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
    access_log_file: Option<&'a Name>,
}

/// What the listener does with a connection.
#[derive(Hash, PartialEq, Eq)]
enum Carries {
    /// HTTP by the routes of the port; whatever is not HTTP goes where unknown hosts go.
    Routes { unknown_hosts: OutboundTrafficPolicy },
    /// Bytes to a cluster.
    Bytes { cluster: String },
    /// HTTP or bytes, found out from the first bytes, to a cluster.
    Either {
        cluster: String,
        /// Whether a sidecar of the mesh may be at the other end, which must be told what comes.
        mesh: bool,
    },
}

/// The listeners of all services. Of several that want the same address and port the first by host name gets it, HTTP
/// before bytes: Envoy refuses a second one.
pub(crate) fn listeners(outbound: &Outbound) -> Vec<ServiceListener<'_>> {
    let mut taken = BTreeMap::new();
    for service in outbound.services.values() {
        for cluster in whole(service).filter(|cluster| cluster.port.protocol.is_http()) {
            let carries = Carries::Routes { unknown_hosts: outbound.unknown_hosts };
            taken.entry((ANY.to_owned(), cluster.port.number)).or_insert(carries);
        }
    }
    for service in outbound.services.values() {
        for cluster in whole(service).filter(|cluster| !cluster.port.protocol.is_http()) {
            for address in addresses(service, cluster) {
                taken.entry((address, cluster.port.number)).or_insert_with(|| bytes(cluster));
            }
        }
    }
    let access_log_file = outbound.access_log_file.as_ref();
    let listener = |((address, port), carries)| ServiceListener { address, port, carries, access_log_file };
    taken.into_iter().filter(|((_, port), _)| *port != OUTBOUND_PORT).map(listener).collect()
}

/// The clusters without subset: only routes that name a subset lead to the others.
fn whole(service: &OutboundService) -> impl Iterator<Item = &OutboundCluster> {
    service.clusters.iter().map(AsRef::as_ref).filter(|cluster| cluster.subset.is_none())
}

/// Where clients dial: the virtual addresses, else for a headless service its pods, else any address.
fn addresses(service: &OutboundService, cluster: &OutboundCluster) -> Vec<String> {
    if !service.addresses.is_empty() {
        return service.addresses.iter().map(ToString::to_string).collect();
    }
    if service.discovery != Discovery::OriginalDst {
        return vec![ANY.to_owned()];
    }
    let socket = |address: &EndpointAddress| match address {
        EndpointAddress::Socket(socket) => Some(socket.ip().to_string()),
        EndpointAddress::Dns { .. } => None,
    };
    cluster.endpoints.iter().filter_map(|endpoint| socket(&endpoint.address)).collect()
}

fn bytes(cluster: &OutboundCluster) -> Carries {
    let name = cluster.name();
    match cluster.port.protocol {
        Protocol::Undeclared => {
            let mesh = matches!(cluster.tls, ClientTlsSetting::Auto(_) | ClientTlsSetting::IstioMutual(_));
            Carries::Either { cluster: name, mesh }
        }
        _ => Carries::Bytes { cluster: name },
    }
}

impl Generator for ServiceListener<'_> {
    const KIND: &'static str = "service listener";

    fn generate(&self) -> EncodedResource {
        let name = format!("{}_{}", self.address, self.port);
        let inspects = !matches!(self.carries, Carries::Bytes { .. });
        let (filter_chains, default_filter_chain) = self.chains();
        let listener = Listener {
            name: name.clone(),
            address: Some(socket_address(&self.address, self.port)),
            bind_to_port: Some(false),
            filter_chains,
            default_filter_chain,
            listener_filters: if inspects { vec![filters::http_inspector()] } else { Vec::new() },
            listener_filters_timeout: inspects.then_some(INSPECTION),
            continue_on_listener_filters_timeout: inspects,
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, &name, &listener)
    }
}

impl ServiceListener<'_> {
    fn chains(&self) -> (Vec<FilterChain>, Option<FilterChain>) {
        match &self.carries {
            Carries::Bytes { cluster } => (vec![self.chain("tcp", &[], self.tcp(cluster))], None),
            Carries::Routes { unknown_hosts } => {
                let http = self.http(routes_of_port(self.port), None);
                let other = self.tcp(unknown_cluster(*unknown_hosts));
                (vec![self.chain("http", &["http/1.1", "h2c"], http)], Some(self.chain("tcp", &[], other)))
            }
            Carries::Either { cluster, mesh } => {
                let http = |alpn: &'static str| self.http(one_cluster(cluster), mesh.then_some(alpn));
                let http1 = self.chain("http/1.1", &["http/1.1"], http("istio-http/1.1"));
                let http2 = self.chain("h2c", &["h2c"], http("istio-h2"));
                (vec![http1, http2], Some(self.chain("tcp", &[], self.tcp(cluster))))
            }
        }
    }

    fn chain(&self, name: &str, protocols: &[&str], filter: Filter) -> FilterChain {
        let found = FilterChainMatch {
            application_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
            ..Default::default()
        };
        FilterChain {
            name: name.to_owned(),
            filter_chain_match: (!protocols.is_empty()).then_some(found),
            filters: vec![filter],
            ..Default::default()
        }
    }

    fn http(&self, routes: RouteSpecifier, alpn: Option<&str>) -> Filter {
        let stat_prefix = format!("outbound_{}_{}", self.address, self.port);
        filters::http(Side::Outbound, &stat_prefix, routes, alpn, self.access_log_file)
    }

    fn tcp(&self, cluster: &str) -> Filter {
        filters::tcp(cluster, self.access_log_file)
    }
}

fn routes_of_port(port: u16) -> RouteSpecifier {
    let source = ConfigSource {
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
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
