//! What comes of the traffic policy of a cluster, with every default filled in (TRAFFIC.md B5 to B8).
//!
//! The translator renders [`ClusterPolicy`], and `route` prints it.

use std::{sync::Arc, time::Duration};

use eastwest_model::{
    policy::{
        H2UpgradePolicy, HashAlgorithm, Http2Keepalive, HttpPool, LoadBalancer, OutlierDetection,
        ProxyProtocol, RetryBudget, SimpleLoadBalancer, TcpKeepalive, TcpPool, Warmup,
    },
    service::Protocol,
};

use crate::{
    settings::{ClientTlsSetting, Discovery, OutboundCluster},
    traffic::{Sending, TrafficSettings},
};

/// A cluster's traffic policy with every default filled in. `None` = no limit, or Envoy's default.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterPolicy {
    /// How an endpoint is chosen.
    pub balancer: Balancer,
    /// New endpoints get more requests by and by.
    pub warmup: Option<Warmup>,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// Keepalive of the sockets.
    pub keepalive: Option<TcpKeepalive>,
    /// Connections to all endpoints together.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// Retries as a share of the requests.
    pub retry_budget: Option<Arc<RetryBudget>>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live.
    pub max_connection_duration: Option<Duration>,
    /// Requests on one connection.
    pub max_requests_per_connection: Option<u32>,
    /// What is spoken to the endpoints; `None` = bytes.
    pub speaks: Option<Speaks>,
    /// Streams on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Pings on HTTP/2 connections.
    pub http2_keepalive: Option<Http2Keepalive>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// PROXY protocol towards the endpoints.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Balancer {
    LeastRequest,
    RoundRobin,
    Random,
    /// With the size of the smallest ring; `None` = Envoy's default.
    RingHash(Option<u64>),
    /// With the size of the table; `None` = Envoy's default.
    Maglev(Option<u64>),
    /// By the way in which the cluster finds its endpoints.
    ClusterProvided,
}

impl Balancer {
    /// As Envoy names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::RingHash(_) => "RING_HASH",
            Self::Maglev(_) => "MAGLEV",
            Self::ClusterProvided => "CLUSTER_PROVIDED",
        }
    }
}

/// What is spoken to the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the caller speaks.
    AsCaller,
}

impl OutboundCluster {
    /// How requests are sent here that nothing but the cluster's own settings concern.
    pub fn sending(&self) -> Sending<'_> {
        let TrafficSettings { hash, mesh, .. } = &self.traffic;
        Sending { hash: hash.as_ref().map(|hash| &hash.value), retries: &mesh.retries }
    }

    /// Its traffic policy with every default filled in.
    pub fn policy_in_force(&self) -> ClusterPolicy {
        let traffic = &self.traffic;
        let pool = traffic.pool();
        let (no_tcp, no_http) = (TcpPool::default(), HttpPool::default());
        let tcp = pool.and_then(|pool| pool.tcp.as_ref()).unwrap_or(&no_tcp);
        let http = pool.and_then(|pool| pool.http.as_ref()).unwrap_or(&no_http);
        let balancer = traffic.load_balancer.as_ref().map(|block| &*block.value);
        let speaks = speaks(traffic, self.port.protocol, &self.tls);
        let is_http2 = speaks == Some(Speaks::Http2);
        ClusterPolicy {
            balancer: choice(balancer, self.discovery),
            warmup: balancer.and_then(warmup),
            connect_timeout: tcp.connect_timeout.unwrap_or(traffic.mesh.connect_timeout),
            keepalive: keepalive(tcp.keepalive, traffic.mesh.keepalive),
            max_connections: tcp.max_connections,
            max_pending_requests: http.http1_max_pending_requests,
            max_requests: http.http2_max_requests,
            max_retries: http.max_retries,
            retry_budget: traffic.retry_budget.as_ref().map(|budget| Arc::clone(&budget.value)),
            idle_timeout: http.idle_timeout.or(tcp.idle_timeout),
            max_connection_duration: tcp.max_connection_duration,
            max_requests_per_connection: http.max_requests_per_connection,
            speaks,
            max_concurrent_streams: http.max_concurrent_streams.filter(|_| is_http2),
            http2_keepalive: http.http2_keepalive.filter(|_| is_http2),
            outlier_detection: traffic.outliers().cloned(),
            proxy_protocol: traffic.proxy_protocol.as_ref().map(|version| version.value),
        }
    }
}

/// B6: least request unless something else is said.
fn choice(balancer: Option<&LoadBalancer>, discovery: Discovery) -> Balancer {
    if matches!(discovery, Discovery::OriginalDst | Discovery::DynamicForwardProxy) {
        return Balancer::ClusterProvided;
    }
    match balancer.and_then(|one| one.consistent_hash.as_ref()).map(|hash| hash.algorithm) {
        Some(HashAlgorithm::RingHash(size)) => return Balancer::RingHash(size),
        Some(HashAlgorithm::Maglev(size)) => return Balancer::Maglev(size),
        None => {}
    }
    match balancer.and_then(|one| one.simple) {
        None | Some(SimpleLoadBalancer::LeastRequest) => Balancer::LeastRequest,
        Some(SimpleLoadBalancer::RoundRobin) => Balancer::RoundRobin,
        Some(SimpleLoadBalancer::Random) => Balancer::Random,
        Some(SimpleLoadBalancer::Passthrough) => Balancer::ClusterProvided,
    }
}

/// Only round robin and least request know it.
fn warmup(balancer: &LoadBalancer) -> Option<Warmup> {
    let simple = balancer.simple;
    let knows =
        matches!(simple, None | Some(SimpleLoadBalancer::RoundRobin | SimpleLoadBalancer::LeastRequest));
    balancer.warmup.clone().filter(|_| knows && balancer.consistent_hash.is_none())
}

/// Field by field that of the rule, else of the mesh.
fn keepalive(rule: Option<TcpKeepalive>, mesh: Option<TcpKeepalive>) -> Option<TcpKeepalive> {
    let (Some(rule), Some(mesh)) = (rule, mesh) else { return rule.or(mesh) };
    Some(TcpKeepalive {
        probes: rule.probes.or(mesh.probes),
        time: rule.time.or(mesh.time),
        interval: rule.interval.or(mesh.interval),
    })
}

/// B8: HTTP/2 where it is declared or a rule makes it so, else what the caller speaks; HTTP/1.1 to servers outside
/// the mesh, which cannot be told of HTTP/2 in the handshake.
fn speaks(traffic: &TrafficSettings, protocol: Protocol, tls: &ClientTlsSetting) -> Option<Speaks> {
    let http = traffic.pool().and_then(|pool| pool.http.as_ref());
    let outside = matches!(tls, ClientTlsSetting::Simple(_) | ClientTlsSetting::Mutual(_));
    let upgraded = match http.and_then(|http| http.h2_upgrade_policy) {
        Some(policy) => policy == H2UpgradePolicy::Upgrade,
        None => traffic.mesh.h2_upgrade,
    };
    match protocol {
        Protocol::Tcp | Protocol::Tls => None,
        _ if http.is_some_and(|http| http.use_client_protocol) => Some(Speaks::AsCaller),
        Protocol::Http2 => Some(Speaks::Http2),
        Protocol::Http if upgraded => Some(Speaks::Http2),
        Protocol::Http | Protocol::Undeclared if outside => Some(Speaks::Http1),
        Protocol::Http | Protocol::Undeclared => Some(Speaks::AsCaller),
    }
}
