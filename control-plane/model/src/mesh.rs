//! MeshConfig: settings of the whole mesh, with Istio's defaults.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use eastwest_identity::{Name, TrustDomain};

pub use crate::unknown_hosts::OutboundTrafficPolicy;

use crate::names::Host;
use crate::policy::{ConnectionPool, OutlierDetection, RetryPolicy, TcpKeepalive};

/// A TLS version (`minProtocolVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// How paths are normalized before policies see them (`pathNormalization`, AUTHORIZATION.md Z33).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    /// As they are.
    None,
    /// Dot segments, backslashes and escaped unreserved characters; the default.
    #[default]
    Base,
    /// The same, and repeated slashes are one.
    MergeSlashes,
    /// The same, and escaped slashes are slashes.
    DecodeAndMergeSlashes,
}

/// An external authorizer of `extensionProviders` (AUTHORIZATION.md Z11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authorizer {
    /// Its name, by which CUSTOM policies refer to it.
    pub name: Name,
    /// HTTP or gRPC.
    pub protocol: AuthorizerProtocol,
    /// Its host: a full name, perhaps with `NAMESPACE/` before it.
    pub service: Name,
    /// The service port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// A request is allowed while it cannot be asked.
    pub fail_open: bool,
    /// The HTTP status of refusals while it cannot be asked; 0 = 403.
    pub status_on_error: u32,
    /// What stands before the path of a check (HTTP).
    pub path_prefix: Name,
    /// Headers of the request that a check has (HTTP).
    pub request_headers: Vec<Name>,
    /// Further headers of a check (HTTP).
    pub added_headers: Vec<(Name, Name)>,
    /// Headers of its answer that an allowed request gets (HTTP).
    pub headers_upstream: Vec<Name>,
    /// Headers of its answer that a denied client gets (HTTP).
    pub headers_downstream_on_deny: Vec<Name>,
    /// Headers of its answer that an allowed client gets (HTTP).
    pub headers_downstream_on_allow: Vec<Name>,
    /// How much of the body a check has.
    pub body: Option<CheckedBody>,
}

impl Authorizer {
    /// Its host, without the namespace before it.
    pub fn host(&self) -> Host {
        Host::new(self.service.split_once('/').map_or(&*self.service, |(_, host)| host))
    }
}

/// How an external authorizer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AuthorizerProtocol {
    Http,
    Grpc,
}

/// `includeRequestBodyInCheck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckedBody {
    /// The most bytes.
    pub max_bytes: u32,
    /// A longer body is cut, not refused.
    pub allow_partial: bool,
    /// It is sent as bytes.
    pub pack_as_bytes: bool,
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
    /// A ServiceEntry takes names and addresses of Kubernetes Services of other namespaces for all clients that see it, as in
    /// Istio; else only for those of its own namespace (POLICY.md D12).
    pub entries_take_services: bool,
    /// Access log of every listener, e.g. `/dev/stdout`; none by default.
    pub access_log_file: Option<Name>,
    /// What holds where a DestinationRule says nothing.
    pub traffic: Arc<TrafficDefaults>,
    /// How paths are normalized.
    pub path_normalization: PathNormalization,
    /// External authorizers.
    pub authorizers: Vec<Authorizer>,
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
    /// The trust domain and its aliases.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        [&self.trust_domain].into_iter().chain(&self.trust_domain_aliases)
    }

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
            entries_take_services: false,
            access_log_file: None,
            traffic: Arc::default(),
            path_normalization: PathNormalization::default(),
            authorizers: Vec::new(),
        }
    }
}
