//! Clusters (POLICY.md O1 to O9, ENVOY.md E7 to E9).

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::settings::{ClientTlsSetting, Discovery, OutboundCluster, OutboundService, WorkloadTls};
use eastwest_model::{Families, service::Protocol};
use eastwest_proto::{
    Any,
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster,
                circuit_breakers::Thresholds,
                cluster::{
                    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch,
                },
            },
            core::v3::{
                AggregatedConfigSource, ApiVersion, ConfigSource, Http1ProtocolOptions, Http2ProtocolOptions,
                TransportSocket, UpstreamHttpProtocolOptions, config_source::ConfigSourceSpecifier,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                explicit_http_config::ProtocolConfig,
            },
        },
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::{Duration, Struct};

use crate::{
    origins::{self, Source},
    resource::{Cache, Generator, encode},
    sidecar::{
        address, dynamic_hosts,
        eds::{self, Target},
        names, tls_context, tls_mode,
    },
    type_builder::{ProxyInputs, TypeBuilder},
};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration { seconds: 10, nanos: 0 };
/// The key of Envoy's typed protocol options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Clusters.
#[derive(Debug)]
pub(crate) struct Clusters;

impl TypeBuilder for Clusters {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::CLUSTER
    }

    fn sources(&self, settings: &WorkloadTls, name: &str) -> Vec<Source> {
        origins::of_cluster_named(settings, name)
    }

    fn of_host(&self, cache: &mut Cache, service: &OutboundService) -> Vec<Arc<EncodedResource>> {
        let inputs = |cluster| ClusterInputs::new(cluster, service.families);
        service.clusters.iter().map(|cluster| cache.get(&inputs(cluster))).collect()
    }

    fn of_scope(&self, cache: &mut Cache) -> Vec<Arc<EncodedResource>> {
        let passthrough = OriginalDestination { name: names::PASSTHROUGH_CLUSTER.to_owned(), inbound: None };
        vec![cache.get(&passthrough), cache.get(&BlackHole)]
    }

    fn of_proxy(&self, cache: &mut Cache, proxy: &ProxyInputs<'_>) -> Vec<Arc<EncodedResource>> {
        let ports = proxy.settings.inbound.ports.iter();
        let listed = ports.filter(|(_, port)| port.listed.is_some());
        let names = listed.map(|(number, _)| names::inbound_cluster(*number));
        let names = names.chain([names::INBOUND_PASSTHROUGH_CLUSTER.to_owned()]);
        let inbound = Some(proxy.settings.outbound.families);
        let mut clusters: Vec<_> =
            names.map(|name| cache.get(&OriginalDestination { name, inbound })).collect();
        if proxy.facts.internal_listeners {
            let internal = [names::INBOUND_INSPECTED, names::INBOUND_PLAINTEXT];
            clusters.extend(internal.map(|name| cache.get(&Internal { name })));
        }
        clusters
    }
}

/// Inputs of an outbound cluster.
#[derive(Hash)]
struct ClusterInputs<'a> {
    name: String,
    discovery: Discovery,
    protocol: Protocol,
    tls: &'a ClientTlsSetting,
    /// The families of the clients' addresses.
    families: Families,
    /// The endpoints of DNS clusters, which carry them; all others are told by EDS.
    endpoints: Vec<Target<'a>>,
}

impl<'a> ClusterInputs<'a> {
    fn new(cluster: &'a OutboundCluster, families: Families) -> Self {
        let inline = matches!(cluster.discovery, Discovery::StrictDns | Discovery::LogicalDns);
        Self {
            name: cluster.name(),
            discovery: cluster.discovery,
            protocol: cluster.port.protocol,
            tls: &cluster.tls,
            families,
            endpoints: if inline { eds::targets(&cluster.endpoints) } else { Vec::new() },
        }
    }
}

impl Generator for ClusterInputs<'_> {
    const KIND: &'static str = "outbound cluster";

    fn generate(&self) -> EncodedResource {
        let mut cluster = Cluster { circuit_breakers: Some(no_limits()), ..named(&self.name) };
        let names = names_from_host(self.tls).unwrap_or_default();
        match self.discovery {
            Discovery::DynamicForwardProxy => {
                let verified = !self.protocol.is_bytes() && names.auto_sni && names.auto_san_validation;
                dynamic_hosts::dial(&mut cluster, verified, self.families);
            }
            discovery => discover(&mut cluster, discovery, &self.endpoints, self.families),
        }
        secure(&mut cluster, self.tls, self.protocol);
        if let Some(options) = http_options(self.protocol, self.tls) {
            cluster.typed_extension_protocol_options =
                BTreeMap::from([(HTTP_OPTIONS.to_owned(), Any::pack(&options))]);
        }
        let resource = encode(TypeUrl::CLUSTER, &self.name, &cluster);
        match cluster.eds_cluster_config {
            Some(_) => resource.warmed_by(TypeUrl::ENDPOINT, &self.name),
            None => resource,
        }
    }
}

/// A cluster whose endpoint is where the intercepted connection wanted to go.
#[derive(Hash)]
struct OriginalDestination {
    name: String,
    /// The families of the workload's addresses, if it leads to the application.
    inbound: Option<Families>,
}

impl Generator for OriginalDestination {
    const KIND: &'static str = "original destination";

    fn generate(&self) -> EncodedResource {
        let mut cluster = Cluster { circuit_breakers: Some(no_limits()), ..named(&self.name) };
        original_destination(&mut cluster);
        cluster.upstream_bind_config = self.inbound.map(address::inbound_source);
        let options = downstream_protocol();
        cluster.typed_extension_protocol_options =
            BTreeMap::from([(HTTP_OPTIONS.to_owned(), Any::pack(&options))]);
        encode(TypeUrl::CLUSTER, &self.name, &cluster)
    }
}

/// A cluster that leads to an internal listener of its own name, inside the process.
#[derive(Hash)]
struct Internal {
    name: &'static str,
}

impl Generator for Internal {
    const KIND: &'static str = "internal";

    fn generate(&self) -> EncodedResource {
        let cluster = Cluster {
            circuit_breakers: Some(no_limits()),
            load_assignment: Some(eds::internal_assignment(self.name)),
            transport_socket: Some(tls_context::internal_upstream()),
            ..named(self.name)
        };
        encode(TypeUrl::CLUSTER, self.name, &cluster)
    }
}

/// The cluster without endpoints.
#[derive(Hash)]
struct BlackHole;

impl Generator for BlackHole {
    const KIND: &'static str = "black hole";

    fn generate(&self) -> EncodedResource {
        encode(TypeUrl::CLUSTER, names::BLACK_HOLE_CLUSTER, &named(names::BLACK_HOLE_CLUSTER))
    }
}

fn named(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        ..Default::default()
    }
}

fn discover(cluster: &mut Cluster, discovery: Discovery, endpoints: &[Target<'_>], families: Families) {
    match discovery {
        Discovery::Eds => {
            let source = ConfigSource {
                initial_fetch_timeout: Some(Duration::default()),
                resource_api_version: ApiVersion::V3 as i32,
                config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
            };
            let service_name = cluster.name.clone();
            cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(source), service_name });
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
            cluster.lb_policy = LbPolicy::LeastRequest as i32;
        }
        Discovery::StrictDns | Discovery::LogicalDns => {
            // LOGICAL_DNS takes exactly one endpoint.
            let one = discovery == Discovery::LogicalDns && endpoints.len() == 1;
            let kind = if one { DiscoveryType::LogicalDns } else { DiscoveryType::StrictDns };
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
            cluster.lb_policy = LbPolicy::LeastRequest as i32;
            cluster.dns_lookup_family = address::lookup(families) as i32;
            cluster.load_assignment = Some(eds::assignment(&cluster.name, endpoints));
        }
        Discovery::OriginalDst | Discovery::DynamicForwardProxy => original_destination(cluster),
    }
}

fn original_destination(cluster: &mut Cluster) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
    cluster.lb_policy = LbPolicy::ClusterProvided as i32;
}

fn secure(cluster: &mut Cluster, tls: &ClientTlsSetting, protocol: Protocol) {
    match tls {
        ClientTlsSetting::Disable => {}
        ClientTlsSetting::Auto(mesh) => {
            cluster.transport_socket_matches = vec![
                socket_match("tlsMode-istio", tls_mode::istio(), tls_context::upstream_mesh(mesh, protocol)),
                socket_match("tlsMode-disabled", Struct::default(), tls_context::raw_buffer()),
            ];
        }
        ClientTlsSetting::IstioMutual(mesh) => {
            cluster.transport_socket = Some(tls_context::upstream_mesh(mesh, protocol));
        }
        ClientTlsSetting::Simple(tls) | ClientTlsSetting::Mutual(tls) => {
            cluster.transport_socket = Some(tls_context::upstream_originated(tls, protocol));
        }
    }
}

fn socket_match(name: &str, of: Struct, socket: TransportSocket) -> TransportSocketMatch {
    TransportSocketMatch { name: name.to_owned(), r#match: Some(of), transport_socket: Some(socket) }
}

/// What the cluster speaks: HTTP/2 where declared, else what the caller speaks; HTTP/1.1 to servers outside the mesh,
/// which cannot be told of HTTP/2 in the handshake. Where the server name comes from the Host header, it is said here.
fn http_options(protocol: Protocol, tls: &ClientTlsSetting) -> Option<HttpProtocolOptions> {
    let outside = matches!(tls, ClientTlsSetting::Simple(_) | ClientTlsSetting::Mutual(_));
    let options = match protocol {
        Protocol::Tcp | Protocol::Tls => return None,
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        Protocol::Http | Protocol::Undeclared if outside => {
            explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()))
        }
        Protocol::Http | Protocol::Undeclared => downstream_protocol(),
    };
    Some(HttpProtocolOptions { upstream_http_protocol_options: names_from_host(tls), ..options })
}

fn names_from_host(tls: &ClientTlsSetting) -> Option<UpstreamHttpProtocolOptions> {
    let auto_san_validation = tls.auto_san_validation();
    let auto_sni = match tls {
        ClientTlsSetting::Disable => false,
        // O1: dynamic forward proxies have no name of their own.
        ClientTlsSetting::Auto(tls) | ClientTlsSetting::IstioMutual(tls) => tls.sni.is_empty(),
        ClientTlsSetting::Simple(tls) | ClientTlsSetting::Mutual(tls) => tls.sni.is_none(),
    };
    (auto_sni || auto_san_validation).then(|| UpstreamHttpProtocolOptions {
        auto_sni,
        auto_san_validation,
        ..Default::default()
    })
}

fn explicit(protocol: ProtocolConfig) -> HttpProtocolOptions {
    let config = ExplicitHttpConfig { protocol_config: Some(protocol) };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)),
        ..Default::default()
    }
}

fn downstream_protocol() -> HttpProtocolOptions {
    let config = UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)),
        ..Default::default()
    }
}

/// A sidecar adds no limits of its own to those of the application.
fn no_limits() -> CircuitBreakers {
    let all = Some(u32::MAX);
    let thresholds = Thresholds {
        max_connections: all,
        max_pending_requests: all,
        max_requests: all,
        max_retries: all,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}
