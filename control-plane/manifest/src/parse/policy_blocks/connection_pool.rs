//! `connectionPool`: limits of connections and requests.

use std::sync::Arc;

use eastwest_model::policy::{
    ConnectionPool, H2UpgradePolicy, Http2Keepalive, HttpPool, TcpKeepalive, TcpPool,
};

use super::{limit, number, set};
use crate::{field::Field, parse::duration};

const TCP_FIELDS: &[&str] =
    &["maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"];
const HTTP_FIELDS: &[&str] = &[
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "idleTimeout",
    "h2UpgradePolicy",
    "useClientProtocol",
    "maxConcurrentStreams",
    "http2KeepAlive",
];
const UPGRADES: &[(&str, Option<H2UpgradePolicy>)] = &[
    ("DEFAULT", None),
    ("DO_NOT_UPGRADE", Some(H2UpgradePolicy::DoNotUpgrade)),
    ("UPGRADE", Some(H2UpgradePolicy::Upgrade)),
];

/// `connectionPool`.
pub(crate) fn connection_pool(field: &Field<'_>) -> Option<Arc<ConnectionPool>> {
    if !field.is_set() {
        return None;
    }
    let (tcp, http) = (field.get("tcp"), field.get("http"));
    if !field.slips(&["tcp", "http"]).has_any(&["tcp", "http"]) {
        field.error("is empty: set tcp or http, or drop it");
    }
    tcp.slips(TCP_FIELDS);
    http.slips(HTTP_FIELDS);
    Some(Arc::new(ConnectionPool { tcp: set(&tcp).map(tcp_pool), http: set(&http).map(http_pool) }))
}

fn tcp_pool(field: &Field<'_>) -> TcpPool {
    TcpPool {
        max_connections: limit(&field.get("maxConnections")),
        connect_timeout: duration::positive(&field.get("connectTimeout")),
        keepalive: keepalive(&field.get("tcpKeepalive")),
        max_connection_duration: duration::positive(&field.get("maxConnectionDuration")),
        idle_timeout: duration::or_zero(&field.get("idleTimeout")),
    }
}

/// `tcpKeepalive`, of a rule or of the mesh.
pub(crate) fn keepalive(field: &Field<'_>) -> Option<TcpKeepalive> {
    field.slips(&["probes", "time", "interval"]);
    field.is_set().then(|| TcpKeepalive {
        probes: number(&field.get("probes")).filter(|probes| *probes > 0),
        time: duration::positive(&field.get("time")),
        interval: duration::positive(&field.get("interval")),
    })
}

/// `h2UpgradePolicy`, of a rule or of the mesh.
pub(crate) fn h2_upgrade_policy(field: &Field<'_>) -> Option<H2UpgradePolicy> {
    field.choice("policies", UPGRADES).flatten()
}

fn http_pool(field: &Field<'_>) -> HttpPool {
    let pool = HttpPool {
        http1_max_pending_requests: limit(&field.get("http1MaxPendingRequests")),
        http2_max_requests: limit(&field.get("http2MaxRequests")),
        max_requests_per_connection: limit(&field.get("maxRequestsPerConnection")),
        max_retries: limit(&field.get("maxRetries")),
        idle_timeout: duration::positive(&field.get("idleTimeout")),
        h2_upgrade_policy: h2_upgrade_policy(&field.get("h2UpgradePolicy")),
        use_client_protocol: field.get("useClientProtocol").flag().unwrap_or(false),
        max_concurrent_streams: limit(&field.get("maxConcurrentStreams")),
        http2_keepalive: http2_keepalive(&field.get("http2KeepAlive")),
    };
    if pool.use_client_protocol && pool.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) {
        field.get("useClientProtocol").error("excludes h2UpgradePolicy: UPGRADE: drop one of the two");
    }
    pool
}

fn http2_keepalive(field: &Field<'_>) -> Option<Http2Keepalive> {
    if !field.is_set() {
        return None;
    }
    field.slips(&["interval", "timeout"]);
    let (interval, timeout) = (field.get("interval"), field.get("timeout"));
    interval.required("give the time between two pings, for example 30s");
    timeout.required("give the time that an answer may take, for example 5s");
    Some(Http2Keepalive { interval: duration::positive(&interval)?, timeout: duration::positive(&timeout)? })
}
