//! Type URLs of the resources that eastwest serves, as constants to match on.
//!
//! Any other message gives its own by [`Name::type_url`](prost::Name::type_url).

/// Clusters, by CDS.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of a cluster, by EDS.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners, by LDS.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Route tables, by RDS.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Certificates, keys and trust bundles, by SDS.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// TLS settings of a workload, for proxies of our own.
pub const WORKLOAD_TLS: &str = "type.googleapis.com/eastwest.v1.WorkloadTls";

#[cfg(test)]
mod tests {
    use prost::Name;

    use crate::eastwest::v1::WorkloadTls;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use crate::envoy::config::listener::v3::Listener;
    use crate::envoy::config::route::v3::RouteConfiguration;
    use crate::envoy::extensions::transport_sockets::tls::v3::{Secret, UpstreamTlsContext};

    #[test]
    fn constants_and_messages_agree() {
        assert_eq!(super::CLUSTER, Cluster::type_url());
        assert_eq!(super::ENDPOINT, ClusterLoadAssignment::type_url());
        assert_eq!(super::LISTENER, Listener::type_url());
        assert_eq!(super::ROUTE, RouteConfiguration::type_url());
        assert_eq!(super::SECRET, Secret::type_url());
        assert_eq!(super::WORKLOAD_TLS, WorkloadTls::type_url());
    }

    #[test]
    fn extensions_are_named_as_envoy_names_them() {
        assert_eq!(
            UpstreamTlsContext::type_url(),
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        );
    }
}
