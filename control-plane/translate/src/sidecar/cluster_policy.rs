//! The traffic policy of a cluster, as Envoy has it (TRAFFIC.md B5 to B8).

use std::time::Duration;

use eastwest_engine::cluster_policy::{Balancer, ClusterPolicy, Speaks};
use eastwest_model::policy::{OutlierDetection, ProxyProtocol, RetryBudget, TcpKeepalive, Warmup};
use eastwest_proto::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster, OutlierDetection as EnvoyOutlierDetection, UpstreamConnectionOptions,
            circuit_breakers::{Thresholds, thresholds::RetryBudget as EnvoyRetryBudget},
            cluster::{
                CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
                RoundRobinLbConfig, SlowStartConfig,
            },
        },
        core::v3::{
            Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
            KeepaliveSettings, RuntimeDouble, TcpKeepalive as EnvoyKeepalive, TransportSocket,
            proxy_protocol_config::Version,
        },
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{
            ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
            explicit_http_config::ProtocolConfig,
        },
    },
    r#type::v3::Percent,
};

use crate::{resource::envoy_duration, sidecar::tls_context};

/// Sets everything but what is spoken to the endpoints and how they are found.
pub(crate) fn apply(cluster: &mut Cluster, policy: &ClusterPolicy) {
    cluster.connect_timeout = Some(envoy_duration(policy.connect_timeout));
    cluster.circuit_breakers = Some(limits(policy));
    cluster.upstream_connection_options = policy.keepalive.map(|keepalive| UpstreamConnectionOptions {
        tcp_keepalive: Some(tcp_keepalive(keepalive)),
        ..Default::default()
    });
    if let Some(outliers) = &policy.outlier_detection {
        cluster.outlier_detection = Some(outlier_detection(outliers));
        let threshold = outliers.min_health_percent.unwrap_or(0);
        cluster.common_lb_config = Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: threshold.into() }),
            ..Default::default()
        });
    }
    balance(cluster, policy);
    if let Some(version) = policy.proxy_protocol {
        wrap_sockets(cluster, version);
    }
}

fn balance(cluster: &mut Cluster, policy: &ClusterPolicy) {
    let slow_start = || policy.warmup.as_ref().map(slow_start);
    let (choice, config) = match policy.balancer {
        Balancer::ClusterProvided => return,
        Balancer::LeastRequest => (
            LbPolicy::LeastRequest,
            slow_start().map(|slow| {
                let config = LeastRequestLbConfig { slow_start_config: Some(slow), ..Default::default() };
                LbConfig::LeastRequestLbConfig(config)
            }),
        ),
        Balancer::RoundRobin => (
            LbPolicy::RoundRobin,
            slow_start().map(|slow| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) })
            }),
        ),
        Balancer::Random => (LbPolicy::Random, None),
        Balancer::RingHash(size) => {
            let ring = |size| RingHashLbConfig { minimum_ring_size: Some(size), ..Default::default() };
            (LbPolicy::RingHash, size.map(ring).map(LbConfig::RingHashLbConfig))
        }
        Balancer::Maglev(size) => {
            let table = |size| MaglevLbConfig { table_size: Some(size) };
            (LbPolicy::Maglev, size.map(table).map(LbConfig::MaglevLbConfig))
        }
    };
    cluster.lb_policy = choice as i32;
    cluster.lb_config = config;
}

fn slow_start(warmup: &Warmup) -> SlowStartConfig {
    let number = |text: &str| text.parse::<f64>().ok();
    SlowStartConfig {
        slow_start_window: Some(envoy_duration(warmup.duration)),
        aggression: warmup.aggression.as_deref().and_then(number).map(|default_value| RuntimeDouble {
            default_value,
            // Envoy wants a key; nobody sets it.
            runtime_key: "eastwest.slow_start.aggression".to_owned(),
        }),
        min_weight_percent: warmup.minimum_percent.as_deref().and_then(number).map(|value| Percent { value }),
    }
}

/// A sidecar adds no limits of its own to those of the application, only what a rule sets.
fn limits(policy: &ClusterPolicy) -> CircuitBreakers {
    let or_none = |limit: Option<u32>| Some(limit.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: or_none(policy.max_connections),
        max_pending_requests: or_none(policy.max_pending_requests),
        max_requests: or_none(policy.max_requests),
        max_retries: or_none(policy.max_retries),
        retry_budget: policy.retry_budget.as_deref().map(retry_budget),
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn retry_budget(budget: &RetryBudget) -> EnvoyRetryBudget {
    let percent = budget.percent.as_deref().and_then(|text| text.parse().ok());
    EnvoyRetryBudget {
        budget_percent: percent.map(|value| Percent { value }),
        budget_interval: budget.interval.map(envoy_duration),
        min_retry_concurrency: budget.min_retry_concurrency,
    }
}

/// The kernel counts whole seconds, of which it takes at least one.
fn tcp_keepalive(keepalive: TcpKeepalive) -> EnvoyKeepalive {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX);
    EnvoyKeepalive {
        keepalive_probes: keepalive.probes,
        keepalive_time: keepalive.time.map(seconds),
        keepalive_interval: keepalive.interval.map(seconds),
    }
}

/// Only errors in a row eject. A count of 0 means that such errors do not.
fn outlier_detection(outliers: &OutlierDetection) -> EnvoyOutlierDetection {
    let enforced = |count: Option<u32>| count.map(|count| if count > 0 { 100 } else { 0 });
    let split = outliers.split_external_local_origin_errors;
    let local = outliers.consecutive_local_origin_failures.filter(|count| split && *count > 0);
    EnvoyOutlierDetection {
        consecutive_5xx: outliers.consecutive_5xx_errors,
        enforcing_consecutive_5xx: enforced(outliers.consecutive_5xx_errors),
        consecutive_gateway_failure: outliers.consecutive_gateway_errors,
        enforcing_consecutive_gateway_failure: enforced(outliers.consecutive_gateway_errors),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: local,
        enforcing_consecutive_local_origin_failure: enforced(local),
        enforcing_local_origin_success_rate: split.then_some(0),
        enforcing_success_rate: Some(0),
        interval: outliers.interval.map(envoy_duration),
        base_ejection_time: outliers.base_ejection_time.map(envoy_duration),
        max_ejection_percent: outliers.max_ejection_percent.filter(|percent| *percent > 0),
        ..Default::default()
    }
}

fn wrap_sockets(cluster: &mut Cluster, version: ProxyProtocol) {
    let version = match version {
        ProxyProtocol::V1 => Version::V1,
        ProxyProtocol::V2 => Version::V2,
    };
    let wrap = |inner: Option<TransportSocket>| {
        Some(tls_context::proxy_protocol(version, inner.unwrap_or_else(tls_context::raw_buffer)))
    };
    if cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = wrap(cluster.transport_socket.take());
    }
    for one in &mut cluster.transport_socket_matches {
        one.transport_socket = wrap(one.transport_socket.take());
    }
}

/// What is spoken to the endpoints; `None` = bytes without limits.
pub(crate) fn http_options(policy: &ClusterPolicy) -> Option<HttpProtocolOptions> {
    let common = CommonOptions {
        idle_timeout: policy.idle_timeout.map(envoy_duration),
        max_connection_duration: policy.max_connection_duration.map(envoy_duration),
        max_requests_per_connection: policy.max_requests_per_connection,
        ..Default::default()
    };
    let common = Some(common).filter(|options| *options != CommonOptions::default());
    let upstream = match policy.speaks {
        None if common.is_none() => return None,
        // Envoy wants to be told some protocol beside the limits.
        None | Some(Speaks::Http1) => http1(),
        Some(Speaks::Http2) => explicit(ProtocolConfig::Http2ProtocolOptions(http2_options(policy))),
        Some(Speaks::AsCaller) => as_caller(),
    };
    Some(HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(upstream),
        ..Default::default()
    })
}

fn http2_options(policy: &ClusterPolicy) -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        max_concurrent_streams: policy.max_concurrent_streams,
        connection_keepalive: policy.http2_keepalive.map(|pings| KeepaliveSettings {
            interval: Some(envoy_duration(pings.interval)),
            timeout: Some(envoy_duration(pings.timeout)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn explicit(protocol: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(protocol) })
}

/// HTTP/1.1.
pub(crate) fn http1() -> UpstreamProtocolOptions {
    explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()))
}

/// Whatever the caller speaks.
pub(crate) fn as_caller() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
    })
}
