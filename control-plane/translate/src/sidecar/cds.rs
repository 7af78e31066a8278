//! Clusters (POLICY.md O1 to O9, ENVOY.md E7 to E9).

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::{
    cluster_policy::{ClusterPolicy, Speaks},
    settings::{ClientTlsSetting, Discovery, OutboundCluster, OutboundService, WorkloadTls},
};
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
                AggregatedConfigSource, ApiVersion, ConfigSource, TransportSocket,
                UpstreamHttpProtocolOptions, config_source::ConfigSourceSpecifier,
            },
        },
        extensions::upstreams::http::v3::HttpProtocolOptions,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::{Duration, Struct};

use crate::{
    origins::{self, Source},
    resource::{Cache, Generator, encode},
    sidecar::{
        address, cluster_policy, dynamic_hosts,
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
        let name = names::PASSTHROUGH_CLUSTER.to_owned();
        let passthrough = OriginalDestination { name, inbound: None, http1: false };
        vec![cache.get(&passthrough), cache.get(&BlackHole)]
    }

    fn of_proxy(&self, cache: &mut Cache, proxy: &ProxyInputs<'_>) -> Vec<Arc<EncodedResource>> {
        let ports = proxy.settings.inbound.ports.iter();
        let inbound = Some(proxy.settings.outbound.families);
        let listed = ports.filter_map(|(number, port)| {
            // B8: what is declared HTTP may come as HTTP/2 from a proxy, and the application knows nothing of that.
            let http1 = port.listed? == Protocol::Http;
            Some(OriginalDestination { name: names::inbound_cluster(*number), inbound, http1 })
        });
        let name = names::INBOUND_PASSTHROUGH_CLUSTER.to_owned();
        let others = OriginalDestination { name, inbound, http1: false };
        let mut clusters: Vec<_> = listed.chain([others]).map(|inputs| cache.get(&inputs)).collect();
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
    policy: ClusterPolicy,
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
            policy: cluster.policy_in_force(),
            families,
            endpoints: if inline { eds::targets(&cluster.endpoints) } else { Vec::new() },
        }
    }
}

impl Generator for ClusterInputs<'_> {
    const KIND: &'static str = "outbound cluster";

    fn generate(&self) -> EncodedResource {
        let mut cluster = named(&self.name);
        let names = names_from_host(self.tls).unwrap_or_default();
        match self.discovery {
            Discovery::DynamicForwardProxy => {
                let verified = !self.protocol.is_bytes() && names.auto_sni && names.auto_san_validation;
                dynamic_hosts::dial(&mut cluster, verified, self.families);
            }
            discovery => discover(&mut cluster, discovery, &self.endpoints, self.families),
        }
        let spoken = if self.policy.speaks == Some(Speaks::Http2) { Protocol::Http2 } else { self.protocol };
        secure(&mut cluster, self.tls, spoken);
        cluster_policy::apply(&mut cluster, &self.policy);
        if let Some(options) = cluster_policy::http_options(&self.policy) {
            let upstream_http_protocol_options = self.policy.speaks.and_then(|_| names_from_host(self.tls));
            let options = HttpProtocolOptions { upstream_http_protocol_options, ..options };
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
    /// HTTP/1.1 is spoken there, whatever the caller speaks.
    http1: bool,
}

impl Generator for OriginalDestination {
    const KIND: &'static str = "original destination";

    fn generate(&self) -> EncodedResource {
        let mut cluster = Cluster { circuit_breakers: Some(no_limits()), ..named(&self.name) };
        original_destination(&mut cluster);
        cluster.upstream_bind_config = self.inbound.map(address::inbound_source);
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(match self.http1 {
                true => cluster_policy::http1(),
                false => cluster_policy::as_caller(),
            }),
            ..Default::default()
        };
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
        }
        Discovery::StrictDns | Discovery::LogicalDns => {
            // LOGICAL_DNS takes exactly one endpoint.
            let one = discovery == Discovery::LogicalDns && endpoints.len() == 1;
            let kind = if one { DiscoveryType::LogicalDns } else { DiscoveryType::StrictDns };
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
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

/// Where no rule can set limits.
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
