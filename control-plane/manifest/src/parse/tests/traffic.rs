//! The blocks of a traffic policy besides TLS: each mistake of TRAFFIC.md V1 is named, all at once.

use super::*;

/// The fields of a DestinationRule that have errors, below `spec.trafficPolicy`.
fn refused(policy: &str) -> Vec<String> {
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: shop}}, \
         spec: {{host: a, trafficPolicy: {policy}}}}}"
    );
    let parsed = parse(&text);
    let errors = parsed.diagnostics.into_iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| one.field.trim_start_matches("spec.trafficPolicy.").to_owned()).collect()
}

#[test]
fn v1_values_of_blocks_are_checked() {
    for (policy, wanted) in [
        ("{connectionPool: {}}", "connectionPool"),
        ("{connectionPool: {tcp: {maxConnections: -1}}}", "connectionPool.tcp.maxConnections"),
        ("{connectionPool: {tcp: {connectTimeout: 0s}}}", "connectionPool.tcp.connectTimeout"),
        ("{connectionPool: {tcp: {connectTimeout: 1.5ms}}}", "connectionPool.tcp.connectTimeout"),
        ("{connectionPool: {tcp: {connectTimeout: soon}}}", "connectionPool.tcp.connectTimeout"),
        ("{connectionPool: {tcp: {connectTimeout: 5}}}", "connectionPool.tcp.connectTimeout"),
        ("{connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}}", "connectionPool.tcp.tcpKeepalive.time"),
        ("{connectionPool: {http: {maxRetries: 2147483648}}}", "connectionPool.http.maxRetries"),
        ("{connectionPool: {http: {idleTimeout: 0s}}}", "connectionPool.http.idleTimeout"),
        ("{connectionPool: {http: {h2UpgradePolicy: YES}}}", "connectionPool.http.h2UpgradePolicy"),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "connectionPool.http.useClientProtocol",
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}",
            "connectionPool.http.http2KeepAlive.timeout",
        ),
        ("{outlierDetection: {interval: 0s}}", "outlierDetection.interval"),
        ("{outlierDetection: {maxEjectionPercent: 101}}", "outlierDetection.maxEjectionPercent"),
        ("{outlierDetection: {minHealthPercent: -1}}", "outlierDetection.minHealthPercent"),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 1}}",
            "outlierDetection.consecutiveLocalOriginFailures",
        ),
        ("{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}", "loadBalancer"),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}}",
            "loadBalancer.consistentHash",
        ),
        (
            "{loadBalancer: {consistentHash: {httpHeaderName: ''}}}",
            "loadBalancer.consistentHash.httpHeaderName",
        ),
        (
            "{loadBalancer: {consistentHash: {ringHash: {minimumRingSize: 8388609}}}}",
            "loadBalancer.consistentHash.ringHash.minimumRingSize",
        ),
        ("{loadBalancer: {warmupDurationSecs: 0s}}", "loadBalancer.warmupDurationSecs"),
        ("{retryBudget: {percent: 101}}", "retryBudget.percent"),
        ("{proxyProtocol: {version: V3}}", "proxyProtocol.version"),
        ("{tunnel: {targetHost: a.example, targetPort: 0}}", "tunnel.targetPort"),
    ] {
        assert_eq!(refused(policy), [wanted], "{policy}");
    }
    let all = "{connectionPool: {tcp: {maxConnections: -1}, http: {maxRetries: -1}}, outlierDetection: {interval: 0s}}";
    assert_eq!(refused(all).len(), 3, "all at once");
    for fine in [
        "{connectionPool: {tcp: {idleTimeout: 0s}}}",
        "{connectionPool: {tcp: {tcpKeepalive: {}}, http: {}}}",
        "{outlierDetection: {}}",
        "{outlierDetection: {consecutiveErrors: 5}}",
        "{loadBalancer: {}}",
        "{loadBalancer: {consistentHash: {}}}",
        "{retryBudget: {}}",
        "{proxyProtocol: {}}",
    ] {
        assert!(refused(fine).is_empty(), "{fine}: {:?}", refused(fine));
    }
}
