//! The blocks of a traffic policy besides TLS.
//!
//! They decide nothing yet (but for PASSTHROUGH), so that a value which does not parse is no error: its field is unset.

use std::{sync::Arc, time::Duration};

use eastwest_model::Name;
use eastwest_model::policy::{
    ConnectionPool, ConsistentHash, H2UpgradePolicy, HashAlgorithm, HashKey, HttpPool, LoadBalancer,
    LocalityLoadBalancer, OutlierDetection, ProxyProtocol, RetryBudget, SimpleLoadBalancer, TcpKeepalive,
    TcpPool, Tunnel, Warmup,
};

use crate::field::Field;

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
];
const OUTLIER_FIELDS: &[&str] = &[
    "splitExternalLocalOriginErrors",
    "consecutiveLocalOriginFailures",
    "consecutiveGatewayErrors",
    "consecutive5xxErrors",
    "consecutiveErrors",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "minHealthPercent",
];
const LOAD_BALANCERS: &[(&str, Option<SimpleLoadBalancer>)] = &[
    ("UNSPECIFIED", None),
    ("ROUND_ROBIN", Some(SimpleLoadBalancer::RoundRobin)),
    ("LEAST_REQUEST", Some(SimpleLoadBalancer::LeastRequest)),
    ("LEAST_CONN", Some(SimpleLoadBalancer::LeastRequest)),
    ("RANDOM", Some(SimpleLoadBalancer::Random)),
    ("PASSTHROUGH", Some(SimpleLoadBalancer::Passthrough)),
];
const UPGRADES: &[(&str, Option<H2UpgradePolicy>)] = &[
    ("DEFAULT", None),
    ("DO_NOT_UPGRADE", Some(H2UpgradePolicy::DoNotUpgrade)),
    ("UPGRADE", Some(H2UpgradePolicy::Upgrade)),
];

/// `loadBalancer`.
pub(super) fn load_balancer(field: &Field<'_>) -> Option<Arc<LoadBalancer>> {
    field.slips(&["simple", "consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs"]);
    let simple = field.get("simple").choice("load balancers", LOAD_BALANCERS).flatten();
    let block = |field: &Field<'_>| LoadBalancer {
        simple,
        consistent_hash: set(&field.get("consistentHash")).map(consistent_hash),
        locality: set(&field.get("localityLbSetting")).map(locality),
        warmup: warmup(field),
    };
    field.is_set().then(|| Arc::new(field.unchecked(block)))
}

fn consistent_hash(field: &Field<'_>) -> ConsistentHash {
    let cookie = field.get("httpCookie");
    let key = if let Some(name) = field.get("httpHeaderName").name() {
        Some(HashKey::Header(name))
    } else if cookie.is_set() {
        Some(HashKey::Cookie {
            name: cookie.get("name").name().unwrap_or_default(),
            path: cookie.get("path").name(),
            ttl: duration(&cookie.get("ttl")),
        })
    } else if field.get("useSourceIp").flag() == Some(true) {
        Some(HashKey::SourceIp)
    } else {
        field.get("httpQueryParameterName").name().map(HashKey::QueryParameter)
    };
    let maglev = field.get("maglev");
    let ring = field.get("ringHash").get("minimumRingSize");
    let algorithm = match maglev.is_set() {
        true => HashAlgorithm::Maglev(number(&maglev.get("tableSize"))),
        false => HashAlgorithm::RingHash(number(&ring).or_else(|| number(&field.get("minimumRingSize")))),
    };
    ConsistentHash { key, algorithm }
}

fn locality(field: &Field<'_>) -> LocalityLoadBalancer {
    let name = |entry: &Field<'_>, key: &str| entry.get(key).name().unwrap_or_default();
    let distribute = field.get("distribute").list();
    let failover = field.get("failover").list();
    LocalityLoadBalancer {
        enabled: field.get("enabled").flag(),
        distribute: distribute
            .iter()
            .map(|entry| {
                let to = entry.get("to").entries();
                let weights =
                    to.iter().filter_map(|(locality, weight)| Some((Name::from(*locality), number(weight)?)));
                (name(entry, "from"), weights.collect())
            })
            .collect(),
        failover: failover.iter().map(|entry| (name(entry, "from"), name(entry, "to"))).collect(),
        failover_priority: field.get("failoverPriority").names(),
    }
}

fn warmup(field: &Field<'_>) -> Option<Warmup> {
    let warmup = field.get("warmup");
    let duration_of = |key| duration(&warmup.get(key));
    Some(Warmup {
        duration: duration_of("duration").or_else(|| duration(&field.get("warmupDurationSecs")))?,
        minimum_percent: warmup.get("minimumPercent").number_text(),
        aggression: warmup.get("aggression").number_text(),
    })
}

/// `connectionPool`.
pub(super) fn connection_pool(field: &Field<'_>) -> Option<Arc<ConnectionPool>> {
    field.slips(&["tcp", "http"]);
    field.get("tcp").slips(TCP_FIELDS);
    field.get("http").slips(HTTP_FIELDS);
    let block = |field: &Field<'_>| ConnectionPool {
        tcp: set(&field.get("tcp")).map(tcp_pool),
        http: set(&field.get("http")).map(http_pool),
    };
    field.is_set().then(|| Arc::new(field.unchecked(block)))
}

fn tcp_pool(field: &Field<'_>) -> TcpPool {
    let keepalive = field.get("tcpKeepalive");
    TcpPool {
        max_connections: limit(&field.get("maxConnections")),
        connect_timeout: duration(&field.get("connectTimeout")),
        keepalive: keepalive.is_set().then(|| TcpKeepalive {
            probes: number(&keepalive.get("probes")),
            time: duration(&keepalive.get("time")),
            interval: duration(&keepalive.get("interval")),
        }),
        max_connection_duration: duration(&field.get("maxConnectionDuration")),
        idle_timeout: duration(&field.get("idleTimeout")),
    }
}

fn http_pool(field: &Field<'_>) -> HttpPool {
    HttpPool {
        http1_max_pending_requests: limit(&field.get("http1MaxPendingRequests")),
        http2_max_requests: limit(&field.get("http2MaxRequests")),
        max_requests_per_connection: limit(&field.get("maxRequestsPerConnection")),
        max_retries: limit(&field.get("maxRetries")),
        idle_timeout: duration(&field.get("idleTimeout")),
        h2_upgrade_policy: field.get("h2UpgradePolicy").choice("policies", UPGRADES).flatten(),
        use_client_protocol: field.get("useClientProtocol").flag().unwrap_or(false),
        max_concurrent_streams: limit(&field.get("maxConcurrentStreams")),
    }
}

/// `outlierDetection`.
pub(super) fn outlier_detection(field: &Field<'_>) -> Option<Arc<OutlierDetection>> {
    field.slips(OUTLIER_FIELDS);
    let block = |field: &Field<'_>| OutlierDetection {
        split_external_local_origin_errors: field
            .get("splitExternalLocalOriginErrors")
            .flag()
            .unwrap_or(false),
        consecutive_local_origin_failures: number(&field.get("consecutiveLocalOriginFailures")),
        consecutive_gateway_errors: number(&field.get("consecutiveGatewayErrors")),
        consecutive_5xx_errors: number(&field.get("consecutive5xxErrors")),
        interval: duration(&field.get("interval")),
        base_ejection_time: duration(&field.get("baseEjectionTime")),
        max_ejection_percent: number(&field.get("maxEjectionPercent")),
        min_health_percent: number(&field.get("minHealthPercent")),
    };
    field.is_set().then(|| Arc::new(field.unchecked(block)))
}

/// `tunnel`.
pub(super) fn tunnel(field: &Field<'_>) -> Option<Arc<Tunnel>> {
    let block = |field: &Field<'_>| Tunnel {
        protocol: field.get("protocol").name(),
        target_host: field.get("targetHost").name().unwrap_or_default(),
        target_port: number(&field.get("targetPort")).unwrap_or(0),
    };
    field.is_set().then(|| Arc::new(field.unchecked(block)))
}

/// `proxyProtocol`; without a version it is V1.
pub(super) fn proxy_protocol(field: &Field<'_>) -> Option<ProxyProtocol> {
    let version = |field: &Field<'_>| match field.get("version").text() {
        Some("V2") => ProxyProtocol::V2,
        _ => ProxyProtocol::V1,
    };
    field.is_set().then(|| field.unchecked(version))
}

/// `retryBudget`.
pub(super) fn retry_budget(field: &Field<'_>) -> Option<Arc<RetryBudget>> {
    let block = |field: &Field<'_>| RetryBudget {
        percent: field.get("percent").number_text(),
        min_retry_concurrency: number(&field.get("minRetryConcurrency")),
    };
    field.is_set().then(|| Arc::new(field.unchecked(block)))
}

fn set<'b, 'a>(field: &'b Field<'a>) -> Option<&'b Field<'a>> {
    Some(field).filter(|field| field.is_set())
}

fn number<T: TryFrom<u64>>(field: &Field<'_>) -> Option<T> {
    field.integer(0..=u64::MAX)
}

/// A limit, of which 0 means none.
fn limit(field: &Field<'_>) -> Option<u32> {
    number(field).filter(|limit| *limit > 0)
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`.
pub(super) fn duration(field: &Field<'_>) -> Option<Duration> {
    let mut rest = field.text().filter(|text| !text.is_empty())?;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_digit(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_digit).unwrap_or(tail.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::Findings;

    #[test]
    fn durations_are_those_of_go() {
        let read = |text: &str| {
            let (value, findings) = (json!(text), Findings::default());
            duration(&Field::root(&value, &findings))
        };
        for (text, millis) in
            [("10s", 10_000), ("1.5s", 1_500), ("100ms", 100), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1d", "1s2", "-1s", "99999999999999999999h"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_block_that_does_not_parse_is_no_finding() {
        let value = json!({
            "tcp": {"maxConnections": "many", "connectTimeout": "soon", "idleTimeout": "1s"},
            "http": {"maxRetries": 3, "http2MaxRequests": 0, "h2UpgradePolicy": "UPGRADE"},
        });
        let findings = Findings::default();
        let pool = connection_pool(&Field::root(&value, &findings)).unwrap();
        assert!(findings.into_set().is_empty());
        let (tcp, http) = (pool.tcp.clone().unwrap(), pool.http.clone().unwrap());
        assert_eq!(tcp, TcpPool { idle_timeout: Some(Duration::from_secs(1)), ..TcpPool::default() });
        let (retries, upgrade) = (Some(3), Some(H2UpgradePolicy::Upgrade));
        assert_eq!(
            http,
            HttpPool { max_retries: retries, h2_upgrade_policy: upgrade, ..HttpPool::default() }
        );
    }

    #[test]
    fn load_balancers_keep_all_their_parts() {
        let value = json!({
            "consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}, "maglev": {"tableSize": 65537}},
            "localityLbSetting": {"distribute": [{"from": "a/*", "to": {"a/*": 80, "b/*": 20}}]},
            "warmup": {"duration": "30s", "aggression": 1.5},
        });
        let findings = Findings::default();
        let block = load_balancer(&Field::root(&value, &findings)).unwrap();
        let hash = block.consistent_hash.clone().unwrap();
        let key = HashKey::Cookie { name: "user".into(), path: None, ttl: Some(Duration::ZERO) };
        assert_eq!((hash.key, hash.algorithm), (Some(key), HashAlgorithm::Maglev(Some(65537))));
        let locality = block.locality.clone().unwrap();
        assert_eq!(locality.distribute, [("a/*".into(), [("a/*".into(), 80), ("b/*".into(), 20)].into())]);
        let warmup = block.warmup.clone().unwrap();
        assert_eq!((warmup.duration.as_secs(), warmup.aggression.as_deref()), (30, Some("1.5")));
    }
}
