//! MeshConfig: settings of the whole mesh, with Istio's defaults.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use eastwest_identity::{Name, TrustDomain};

pub use crate::unknown_hosts::OutboundTrafficPolicy;

use crate::policy::{ConnectionPool, OutlierDetection, RetryPolicy, TcpKeepalive};

/// A TLS version (`minProtocolVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// The name of the ConfigMap with the mesh's settings, in the root namespace.
pub const MESH_CONFIG_MAP: &str = "istio";

/// The mesh's settings, from the ConfigMap [`MESH_CONFIG_MAP`] (key `mesh`) of the root namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// Trust domain of the identities we issue.
    pub trust_domain: TrustDomain,
    /// Further trust domains that peers may carry.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// The namespace whose policies hold for the mesh.
    pub root_namespace: Name,
    /// DNS domain of the cluster, `cluster.local`.
    pub cluster_domain: Name,
    /// Mutual TLS where the endpoint supports it and no rule says otherwise.
    pub enable_auto_mtls: bool,
    /// Lowest version that servers accept from the mesh (`meshMTLS.minProtocolVersion`).
    pub min_tls_version: TlsVersion,
    /// Cipher suites for SIMPLE and MUTUAL (`tlsDefaults.cipherSuites`).
    pub tls_default_cipher_suites: Vec<Name>,
    /// Curves for SIMPLE and MUTUAL (`tlsDefaults.ecdhCurves`).
    pub tls_default_curves: Vec<Name>,
    /// Hosts that no service knows.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// Visibility of rules without `exportTo`.
    pub default_destination_rule_export_to: BTreeSet<Name>,
    /// Access log of every listener, e.g. `/dev/stdout`; none by default.
    pub access_log_file: Option<Name>,
    /// What holds where a DestinationRule says nothing.
    pub traffic: Arc<TrafficDefaults>,
}

/// How clients call where no DestinationRule says anything else (TRAFFIC.md M1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficDefaults {
    /// How long a connection may take to come up (`connectTimeout`).
    pub connect_timeout: Duration,
    /// Keepalive of the sockets (`tcpKeepalive`).
    pub keepalive: Option<TcpKeepalive>,
    /// HTTP/1.1 becomes HTTP/2 between proxies (`h2UpgradePolicy: UPGRADE`).
    pub h2_upgrade: bool,
    /// `defaultTrafficPolicy.connectionPool`.
    pub connection_pool: Option<Arc<ConnectionPool>>,
    /// `defaultTrafficPolicy.outlierDetection`.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// Which requests are tried again (`defaultHttpRetryPolicy`).
    pub retries: Arc<RetryPolicy>,
}

impl Default for TrafficDefaults {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            h2_upgrade: false,
            connection_pool: None,
            outlier_detection: None,
            retries: Arc::default(),
        }
    }
}

impl MeshConfig {
    /// Istio's defaults for a trust domain and a root namespace.
    pub fn new(trust_domain: TrustDomain, root_namespace: impl Into<Name>) -> Self {
        Self {
            trust_domain,
            trust_domain_aliases: Vec::new(),
            root_namespace: root_namespace.into(),
            cluster_domain: "cluster.local".into(),
            enable_auto_mtls: true,
            min_tls_version: TlsVersion::V1_2,
            tls_default_cipher_suites: Vec::new(),
            tls_default_curves: Vec::new(),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            default_destination_rule_export_to: BTreeSet::from(["*".into()]),
            access_log_file: None,
            traffic: Arc::default(),
        }
    }
}
