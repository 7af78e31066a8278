//! The traffic policy of a destination, as people read it.

use eastwest_model::{
    ObjectRef,
    policy::{HashKey, OutlierDetection, ProxyProtocol, TcpKeepalive, Warmup},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::go;
use crate::{
    cluster_policy::{Balancer, ClusterPolicy, Speaks},
    listeners::Resolved,
    settings::{Discovery, OutboundCluster},
    traffic::{Sourced, TrafficSettings},
};

/// The policy in force for a destination, with Envoy's names. `null` = not set, or no limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyInForce {
    /// The DestinationRule that holds for it.
    pub object: Option<ObjectRef>,
    /// How an endpoint is chosen, with Envoy's name.
    pub load_balancer: &'static str,
    /// The size of the smallest ring.
    pub ring_size: Option<u64>,
    /// The size of the table.
    pub table_size: Option<u64>,
    /// How new endpoints get more requests by and by.
    pub warmup: Option<Value>,
    /// What is hashed.
    pub hash: Option<Value>,
    /// The order of the endpoints by their places: not known.
    pub locality: Option<Value>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<Value>,
    /// Limits of connections and requests.
    pub connection_pool: Value,
    /// The rule and the level that each block comes from; what is not named is a default.
    pub origins: Map<String, Value>,
    /// How endpoints are found, with Envoy's name.
    pub discovery: &'static str,
    /// The endpoints that take requests.
    pub endpoints: Vec<String>,
}

impl PolicyInForce {
    /// That of a cluster that a call leads to.
    pub(super) fn of(cluster: &OutboundCluster, resolved: &Resolved<'_>) -> Self {
        let policy = cluster.policy_in_force();
        let by_route = resolved.sending.and_then(|sending| sending.hash).map(hash);
        let by_connection = resolved.relay.hashes_source.then(|| hash(&HashKey::SourceIp));
        let (ring_size, table_size) = match policy.balancer {
            Balancer::RingHash(size) => (size, None),
            Balancer::Maglev(size) => (None, size),
            _ => (None, None),
        };
        let ready = cluster.endpoints.iter().filter(|endpoint| endpoint.ready);
        Self {
            object: cluster.traffic.rule.clone(),
            load_balancer: policy.balancer.as_str(),
            ring_size,
            table_size,
            warmup: policy.warmup.as_ref().map(warmup),
            hash: if resolved.sending.is_some() { by_route } else { by_connection },
            locality: None,
            outlier_detection: policy.outlier_detection.as_deref().map(outlier_detection),
            connection_pool: connection_pool(&policy),
            origins: origins(&cluster.traffic),
            discovery: discovery(cluster.discovery),
            endpoints: ready.map(|endpoint| endpoint.address.to_string()).collect(),
        }
    }
}

fn discovery(discovery: Discovery) -> &'static str {
    match discovery {
        Discovery::Eds => "EDS",
        Discovery::StrictDns => "STRICT_DNS",
        Discovery::LogicalDns => "LOGICAL_DNS",
        Discovery::OriginalDst => "ORIGINAL_DST",
        Discovery::DynamicForwardProxy => "DYNAMIC_FORWARD_PROXY",
    }
}

fn origins(traffic: &TrafficSettings) -> Map<String, Value> {
    fn of<T>(block: Option<&Sourced<T>>) -> Option<Value> {
        block.map(|block| json!({"rule": block.rule, "level": block.level}))
    }
    fn or_mesh(own: Option<Value>, mesh: bool) -> Option<Value> {
        own.or_else(|| mesh.then(|| json!({"rule": "MeshConfig", "level": "mesh"})))
    }
    let mesh = &traffic.mesh;
    let known = [
        ("load_balancer", of(traffic.load_balancer.as_ref())),
        ("hash", of(traffic.hash.as_ref())),
        ("connection_pool", or_mesh(of(traffic.connection_pool.as_ref()), mesh.connection_pool.is_some())),
        (
            "outlier_detection",
            or_mesh(of(traffic.outlier_detection.as_ref()), mesh.outlier_detection.is_some()),
        ),
        ("retry_budget", of(traffic.retry_budget.as_ref())),
        ("proxy_protocol", of(traffic.proxy_protocol.as_ref())),
    ];
    known.into_iter().filter_map(|(name, origin)| Some((name.to_owned(), origin?))).collect()
}

fn warmup(warmup: &Warmup) -> Value {
    let number =
        |text: &Option<eastwest_model::Name>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    json!({
        "duration": go(warmup.duration),
        "aggression": number(&warmup.aggression),
        "minimum_percent": number(&warmup.minimum_percent),
    })
}

/// What is hashed.
fn hash(key: &HashKey) -> Value {
    match key {
        HashKey::Header(name) => json!({"header": name}),
        HashKey::SourceIp => json!({"source_ip": true}),
        HashKey::QueryParameter(name) => json!({"query_parameter": name}),
        HashKey::Cookie { name, path, ttl, attributes } => {
            let attributes: Vec<_> =
                attributes.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            json!({"cookie": {"name": name, "path": path, "ttl": ttl.map(go), "attributes": attributes}})
        }
    }
}

fn outlier_detection(outliers: &OutlierDetection) -> Value {
    let split = outliers.split_external_local_origin_errors;
    let local = outliers.consecutive_local_origin_failures.filter(|count| split && *count > 0);
    json!({
        "consecutive_5xx": outliers.consecutive_5xx_errors,
        "consecutive_gateway_failure": outliers.consecutive_gateway_errors,
        "consecutive_local_origin_failure": local,
        "split_external_local_origin_errors": split,
        "interval": outliers.interval.map(go),
        "base_ejection_time": outliers.base_ejection_time.map(go),
        "max_ejection_percent": outliers.max_ejection_percent.filter(|percent| *percent > 0),
        "min_health_percent": outliers.min_health_percent.unwrap_or(0),
    })
}

fn connection_pool(policy: &ClusterPolicy) -> Value {
    let protocol = match policy.speaks {
        Some(Speaks::Http2) => Some("http2"),
        Some(Speaks::AsCaller) => Some("downstream"),
        Some(Speaks::Http1) | None => None,
    };
    let budget = policy.retry_budget.as_deref().map(|budget| {
        json!({
            "percent": budget.percent.as_deref().and_then(|text| text.parse::<f64>().ok()),
            "min_retry_concurrency": budget.min_retry_concurrency,
            "interval": budget.interval.map(go),
        })
    });
    let pings = policy
        .http2_keepalive
        .map(|pings| json!({"interval": go(pings.interval), "timeout": go(pings.timeout)}));
    let proxy_protocol = policy.proxy_protocol.map(|version| match version {
        ProxyProtocol::V1 => "V1",
        ProxyProtocol::V2 => "V2",
    });
    json!({
        "max_connections": policy.max_connections,
        "max_pending_requests": policy.max_pending_requests,
        "max_requests": policy.max_requests,
        "max_retries": policy.max_retries,
        "connect_timeout": go(policy.connect_timeout),
        "tcp_keepalive": policy.keepalive.map(keepalive),
        "idle_timeout": policy.idle_timeout.map(go),
        "max_connection_duration": policy.max_connection_duration.map(go),
        "max_requests_per_connection": policy.max_requests_per_connection,
        "protocol": protocol,
        "max_concurrent_streams": policy.max_concurrent_streams,
        "http2_keepalive": pings,
        "retry_budget": budget,
        "proxy_protocol": proxy_protocol,
    })
}

fn keepalive(keepalive: TcpKeepalive) -> Value {
    json!({
        "probes": keepalive.probes,
        "time": keepalive.time.map(go),
        "interval": keepalive.interval.map(go),
    })
}
