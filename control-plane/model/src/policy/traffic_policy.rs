//! The traffic policy of a DestinationRule: how connections to a host are made and shared out.
//!
//! The blocks are kept as they are written; defaults are filled in when a cluster is made of them. A value that does not
//! parse is an error of the rule, and counts as unset in what stands in for it (POLICY.md V4).

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use eastwest_identity::Name;
use serde::Serialize;

/// A traffic policy: general, or of a subset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TrafficPolicy {
    /// The blocks that a port may have of its own.
    pub blocks: PolicyBlocks,
    /// `portLevelSettings` in their order; the first entry of a port wins (POLICY.md T1).
    pub ports: Vec<PortTrafficPolicy>,
    /// `tunnel`: CONNECT or POST through the cluster.
    pub tunnel: Option<Arc<Tunnel>>,
    /// `proxyProtocol.version`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `retryBudget`.
    pub retry_budget: Option<Arc<RetryBudget>>,
}

/// An entry of `portLevelSettings`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortTrafficPolicy {
    /// Service port; the API sets no bound (POLICY.md V3).
    pub port: u32,
    /// What it sets.
    pub blocks: PolicyBlocks,
}

/// The blocks of a traffic policy that a port may have of its own. A block is taken whole from one policy: policies are
/// merged block by block, never field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PolicyBlocks {
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `loadBalancer`.
    pub load_balancer: Option<Arc<LoadBalancer>>,
    /// `connectionPool`.
    pub connection_pool: Option<Arc<ConnectionPool>>,
    /// `outlierDetection`.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
}

impl PolicyBlocks {
    /// Whether the load balancer is `simple: PASSTHROUGH`: the caller's address is dialled (POLICY.md A5).
    pub fn is_passthrough(&self) -> bool {
        self.load_balancer.as_ref().is_some_and(|one| one.is_passthrough())
    }
}

/// `tls.mode` of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Plaintext; also a block without `mode` (POLICY.md T3).
    Disable,
    /// TLS, the server's certificate is checked.
    Simple,
    /// TLS with a client certificate of the rule.
    Mutual,
    /// TLS with the mesh's certificates.
    IstioMutual,
}

impl fmt::Display for ClientTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        })
    }
}

/// A `tls` block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// The mode.
    pub mode: ClientTlsMode,
    /// Server name to send.
    pub sni: Option<Name>,
    /// Names to accept.
    pub subject_alt_names: Vec<Name>,
    /// Path of the client certificate chain.
    pub client_certificate: Option<Name>,
    /// Path of the client key.
    pub private_key: Option<Name>,
    /// Path of the trust bundle.
    pub ca_certificates: Option<Name>,
    /// Name of a credential instead of files (POLICY.md O7).
    pub credential_name: Option<Name>,
    /// Accept any server certificate (POLICY.md O6).
    pub insecure_skip_verify: bool,
}

/// A `loadBalancer` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LoadBalancer {
    /// `simple`, `None` if unset or UNSPECIFIED.
    pub simple: Option<SimpleLoadBalancer>,
    /// `consistentHash`.
    pub consistent_hash: Option<ConsistentHash>,
    /// `localityLbSetting`.
    pub locality: Option<LocalityLoadBalancer>,
    /// `warmup`, or `warmupDurationSecs` as its window.
    pub warmup: Option<Warmup>,
}

impl LoadBalancer {
    /// `simple: PASSTHROUGH`.
    pub fn is_passthrough(&self) -> bool {
        self.simple == Some(SimpleLoadBalancer::Passthrough)
    }
}

/// `loadBalancer.simple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SimpleLoadBalancer {
    RoundRobin,
    /// LEAST_REQUEST, or LEAST_CONN, its old name.
    LeastRequest,
    Random,
    /// The caller's address is dialled (POLICY.md A5).
    Passthrough,
}

/// `loadBalancer.consistentHash`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: Option<HashKey>,
    /// How endpoints are found by the hash.
    pub algorithm: HashAlgorithm,
}

/// What a consistent hash is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The header of this name.
    Header(Name),
    /// A cookie.
    Cookie {
        /// Its name.
        name: Name,
        /// Its path.
        path: Option<Name>,
        /// How long a generated one lives: 0 = as long as the session, `None` = none is generated.
        ttl: Option<Duration>,
        /// Further attributes of a generated one, name and value.
        attributes: Vec<(Name, Name)>,
    },
    /// The address of the caller.
    SourceIp,
    /// The query parameter of this name.
    QueryParameter(Name),
}

/// How endpoints are found by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// `ringHash`, or neither: the smallest ring, `None` = Envoy's default.
    RingHash(Option<u64>),
    /// `maglev`: the size of the table, `None` if unset.
    Maglev(Option<u64>),
}

/// `loadBalancer.localityLbSetting`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LocalityLoadBalancer {
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `distribute`: by the locality of the client, the weight of each locality in per cent.
    pub distribute: Vec<(Name, BTreeMap<Name, u32>)>,
    /// `failover`: from one region to another.
    pub failover: Vec<(Name, Name)>,
    /// `failoverPriority`: labels, or `label=value`.
    pub failover_priority: Vec<Name>,
}

/// `loadBalancer.warmup`: new endpoints get more requests by and by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warmup {
    /// How long an endpoint counts as new.
    pub duration: Duration,
    /// The least share of requests in per cent, as written; `None` = Envoy's default.
    pub minimum_percent: Option<Name>,
    /// The speed of the increase, as written; `None` = Envoy's default.
    pub aggression: Option<Name>,
}

/// A `connectionPool` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectionPool {
    /// `tcp`.
    pub tcp: Option<TcpPool>,
    /// `http`.
    pub http: Option<HttpPool>,
}

/// `connectionPool.tcp`. Limits of 0 are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TcpPool {
    /// Connections to all endpoints together.
    pub max_connections: Option<u32>,
    /// How long a connection may take to come up.
    pub connect_timeout: Option<Duration>,
    /// Keepalive of the socket.
    pub keepalive: Option<TcpKeepalive>,
    /// How long a connection may live.
    pub max_connection_duration: Option<Duration>,
    /// How long a connection may carry nothing.
    pub idle_timeout: Option<Duration>,
}

/// `connectionPool.tcp.tcpKeepalive`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TcpKeepalive {
    /// Probes without an answer before a connection counts as dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// `connectionPool.http`. Limits of 0 are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HttpPool {
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// Requests under way.
    pub http2_max_requests: Option<u32>,
    /// Requests on one connection.
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// How long a connection may carry no request.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Use the protocol of the client towards the server.
    pub use_client_protocol: bool,
    /// Streams on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// PING frames on HTTP/2 connections.
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// `connectionPool.http.http2KeepAlive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Http2Keepalive {
    /// Time between two of them.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// `connectionPool.http.h2UpgradePolicy` other than DEFAULT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum H2UpgradePolicy {
    DoNotUpgrade,
    Upgrade,
}

/// An `outlierDetection` block. What is unset is Envoy's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OutlierDetection {
    /// Errors of the connection count apart from those of the server.
    pub split_external_local_origin_errors: bool,
    /// Errors of the connection in a row.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Answers 502, 503 and 504 in a row; 0 = not counted.
    pub consecutive_gateway_errors: Option<u32>,
    /// Answers 5xx in a row; 0 = not counted.
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between two sweeps.
    pub interval: Option<Duration>,
    /// How long an endpoint is ejected, the first time.
    pub base_ejection_time: Option<Duration>,
    /// The largest share of endpoints that is ejected.
    pub max_ejection_percent: Option<u32>,
    /// Below this share of healthy endpoints all get requests.
    pub min_health_percent: Option<u32>,
}

/// A `tunnel` block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// `protocol`: `CONNECT` or `POST`, as written; `None` = CONNECT.
    pub protocol: Option<Name>,
    /// The host at the far end.
    pub target_host: Name,
    /// The port at the far end.
    pub target_port: u32,
}

/// `proxyProtocol.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// A `retryBudget` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// Retries as a share of the requests under way, in per cent, as written.
    pub percent: Option<Name>,
    /// Retries that are allowed in any case.
    pub min_retry_concurrency: Option<u32>,
    /// The time over which requests are counted; `None` = those under way.
    pub interval: Option<Duration>,
}
