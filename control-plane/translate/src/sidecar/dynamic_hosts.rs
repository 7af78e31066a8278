//! Hosts that the proxy looks up when they are called (POLICY.md O1): the cluster that dials them and the filters
//! that look them up share one cache. Envoy knows a cache by its name, so its settings must be the same everywhere.

use eastwest_model::Families;
use eastwest_proto::{
    Any,
    envoy::{
        config::cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, CustomClusterType, LbPolicy},
        },
        extensions::{
            clusters::dynamic_forward_proxy::v3::{
                ClusterConfig, cluster_config::ClusterImplementationSpecifier,
            },
            common::dynamic_forward_proxy::v3::DnsCacheConfig,
            filters::{
                http::dynamic_forward_proxy::v3::{
                    FilterConfig as HostFilter, filter_config::ImplementationSpecifier,
                },
                network::sni_dynamic_forward_proxy::v3::{
                    FilterConfig as ServerNameFilter, filter_config::PortSpecifier,
                },
            },
        },
    },
};

use crate::sidecar::address;

fn cache(families: Families) -> DnsCacheConfig {
    DnsCacheConfig {
        name: "dynamic-hosts".to_owned(),
        dns_lookup_family: address::lookup(families) as i32,
        ..Default::default()
    }
}

/// Makes a cluster dial whatever host a request names. `verified`: it checks that the server is that host; Envoy wants
/// to be told where it does not.
pub(crate) fn dial(cluster: &mut Cluster, verified: bool, families: Families) {
    let config = ClusterConfig {
        allow_insecure_cluster_options: !verified,
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(cache(
            families,
        ))),
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(Any::pack(&config)),
    }));
    cluster.lb_policy = LbPolicy::ClusterProvided as i32;
}

/// Looks up the host of each request whose route leads to such a cluster.
pub(crate) fn by_host(families: Families) -> HostFilter {
    HostFilter { implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache(families))) }
}

/// Looks up the server name of a handshake, which is dialled at `port`.
pub(crate) fn by_server_name(port: u16, families: Families) -> ServerNameFilter {
    ServerNameFilter {
        dns_cache_config: Some(cache(families)),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
    }
}
