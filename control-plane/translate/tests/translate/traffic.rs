//! What becomes of traffic policies in the resources, and that stock Envoy takes it.

use std::sync::Arc;

use eastwest_engine::Snapshot;
use serde_json::{Value, json};

use crate::{
    envoy,
    world::{self, Resources},
};

/// A mesh of one Service with ports of each kind, its rules, and the settings of the mesh.
pub(crate) fn mesh(policies: &[Value], settings: &str) -> Arc<Snapshot> {
    let port = |name: &str, number: u16| json!({"name": name, "port": number});
    let ports = [port("http-a", 80), port("grpc-a", 90), port("tcp-a", 5432), port("a", 7000)];
    let meta = |name: &str| json!({"name": name, "namespace": "shop", "labels": {"app": name}});
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("web"), "status": {"podIP": "10.0.0.1"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("reviews"), "status": {"podIP": "10.0.0.2"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("reviews"),
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "reviews"}, "ports": ports}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": format!("trustDomain: cluster.local\n{settings}")}}),
    ];
    objects.extend(policies.iter().enumerate().map(|(at, policy)| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("r{at}"), "namespace": "shop"},
            "spec": {"host": "reviews", "trafficPolicy": policy}})
    }));
    let manifests: Vec<_> = objects.iter().map(Value::to_string).collect();
    world::world(&manifests.join("\n---\n"))
}

/// The resources of the client, which stock Envoy takes.
fn resources(policy: &Value, settings: &str) -> Resources {
    let policies = if policy.is_null() { Vec::new() } else { vec![policy.clone()] };
    let resources = Resources::of(&mesh(&policies, settings), "shop/web");
    if let Some(program) = envoy::stock_envoy("traffic policies") {
        assert_eq!(envoy::complaints(&program, &resources), "", "{policy}");
    }
    resources
}

fn cluster_of(resources: &Resources, port: u16) -> Value {
    let name = format!("outbound|{port}||reviews.shop.svc.cluster.local");
    world::json(std::slice::from_ref(resources.cluster(&name).unwrap()))[0].clone()
}

fn cluster(policy: &Value, settings: &str, port: u16) -> Value {
    cluster_of(&resources(policy, settings), port)
}

/// Whether `found` has all that `wanted` has; `null` = nothing there.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| has(found.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        _ => found == wanted,
    }
}

fn assert_has(found: &Value, wanted: &Value) {
    assert!(has(found, wanted), "\nwanted {wanted}\n found {found:#}");
}

#[test]
fn clusters_have_the_limits_of_their_rule() {
    let limits = |thresholds: Value| json!({"circuit_breakers": {"thresholds": [thresholds]}});
    let all = u32::MAX;
    let none = limits(json!({"max_connections": all, "max_pending_requests": all, "max_requests": all,
        "max_retries": all, "retry_budget": null}));
    assert_has(&cluster(&Value::Null, "", 80), &none);
    let pool = json!({"connectionPool": {
        "tcp": {"maxConnections": 1, "connectTimeout": "30ms", "maxConnectionDuration": "1h", "idleTimeout": "5m",
            "tcpKeepalive": {"time": "2h", "interval": "75s", "probes": 9}},
        "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4, "maxRequestsPerConnection": 5}},
        "retryBudget": {}});
    let found = cluster(&pool, "", 80);
    assert_has(
        &found,
        &limits(json!({"max_connections": 1, "max_pending_requests": 2, "max_requests": 3,
        "max_retries": 4,
        "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3}})),
    );
    let keepalive = json!({"keepalive_probes": 9, "keepalive_time": 7200, "keepalive_interval": 75});
    assert_has(
        &found,
        &json!({"connect_timeout": "0.030s",
        "upstream_connection_options": {"tcp_keepalive": keepalive}}),
    );
    for port in [80, 90, 5432, 7000] {
        let options = &cluster(&pool, "", port)["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        let common = json!({"idle_timeout": "300s", "max_connection_duration": "3600s",
            "max_requests_per_connection": 5});
        assert_has(options, &json!({"common_http_protocol_options": common}));
    }
    let outliers = json!({"outlierDetection": {"consecutive5xxErrors": 7, "consecutiveGatewayErrors": 0,
        "interval": "5s", "baseEjectionTime": "1m", "maxEjectionPercent": 50, "consecutiveErrors": 3}});
    assert_has(
        &cluster(&outliers, "", 80),
        &json!({
        "outlier_detection": {"consecutive_5xx": 7, "enforcing_consecutive_5xx": 100,
            "consecutive_gateway_failure": 0, "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0, "interval": "5s", "base_ejection_time": "60s",
            "max_ejection_percent": 50, "consecutive_local_origin_failure": null},
        "common_lb_config": {"healthy_panic_threshold": {"value": null}}}),
    );
    let split = json!({"outlierDetection": {"splitExternalLocalOriginErrors": true,
        "consecutiveLocalOriginFailures": 4, "minHealthPercent": 30}});
    assert_has(
        &cluster(&split, "", 80),
        &json!({
        "outlier_detection": {"split_external_local_origin_errors": true, "consecutive_local_origin_failure": 4,
            "enforcing_consecutive_local_origin_failure": 100, "enforcing_local_origin_success_rate": 0},
        "common_lb_config": {"healthy_panic_threshold": {"value": 30.0}}}),
    );
    assert_has(
        &cluster(&json!({"outlierDetection": {}}), "", 80),
        &json!({"outlier_detection": {"enforcing_success_rate": 0, "consecutive_5xx": null}}),
    );
    let wrapped = cluster(&json!({"proxyProtocol": {"version": "V2"}}), "", 80);
    let sockets: Vec<_> = wrapped["transport_socket_matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["transport_socket"]["name"].clone())
        .collect();
    assert_eq!(sockets, vec!["envoy.transport_sockets.upstream_proxy_protocol"; 2]);
}

#[test]
fn clusters_balance_as_their_rule_says() {
    for (balancer, wanted) in [
        (json!({"simple": "LEAST_CONN"}), json!({"lb_policy": "LEAST_REQUEST"})),
        // Envoy's default is not written.
        (json!({"simple": "ROUND_ROBIN"}), json!({"lb_policy": null})),
        (json!({"simple": "RANDOM"}), json!({"lb_policy": "RANDOM"})),
        (
            json!({"simple": "UNSPECIFIED", "warmupDurationSecs": "1m"}),
            json!({"lb_policy": "LEAST_REQUEST",
            "least_request_lb_config": {"slow_start_config": {"slow_start_window": "60s",
                "aggression": null, "min_weight_percent": null}}}),
        ),
        (
            json!({"simple": "ROUND_ROBIN", "warmup": {"duration": "30s"}}),
            json!({
            "round_robin_lb_config": {"slow_start_config": {"slow_start_window": "30s",
                "aggression": {"default_value": 1.0}, "min_weight_percent": {"value": 10.0}}}}),
        ),
        (json!({"simple": "RANDOM", "warmup": {"duration": "30s"}}), json!({"round_robin_lb_config": null})),
        (
            json!({"consistentHash": {"httpHeaderName": "x"}}),
            json!({"lb_policy": "RING_HASH",
            "ring_hash_lb_config": {"minimum_ring_size": "1024"}}),
        ),
        (
            json!({"consistentHash": {"httpHeaderName": "x", "ringHash": {}}}),
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": null}),
        ),
        (
            json!({"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 251}}}),
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": "251"}}),
        ),
    ] {
        assert_has(&cluster(&json!({"loadBalancer": balancer}), "", 80), &wanted);
    }
    assert_has(
        &cluster(&Value::Null, "", 80),
        &json!({"lb_policy": "LEAST_REQUEST", "outlier_detection": null}),
    );
}

fn routes_of(resources: &Resources, port: &str) -> Value {
    let routes = world::json(&resources.routes);
    let of_port = routes.into_iter().find(|one| one["name"] == port).unwrap();
    of_port["virtual_hosts"][0]["routes"][0]["route"].clone()
}

#[test]
fn routes_hash_what_the_rule_names() {
    let cookie = json!({"name": "sid", "ttl": "0s", "path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}]});
    for (hash, wanted) in [
        (json!({"httpHeaderName": "x-user"}), json!({"header": {"header_name": "x-user"}})),
        (json!({"httpCookie": {"name": "sid"}}), json!({"cookie": {"name": "sid", "ttl": null}})),
        (
            json!({"httpCookie": cookie}),
            json!({"cookie": {"name": "sid", "ttl": "0s", "path": "/",
            "attributes": [{"name": "SameSite", "value": "Lax"}]}}),
        ),
        (json!({"useSourceIp": true}), json!({"connection_properties": {"source_ip": true}})),
        (json!({"httpQueryParameterName": "q"}), json!({"query_parameter": {"name": "q"}})),
    ] {
        let policy = json!({"loadBalancer": {"consistentHash": hash}});
        let resources = resources(&policy, "");
        assert_has(&routes_of(&resources, "80")["hash_policy"], &json!([wanted]));
        // The listener of a port without a protocol has routes of its own.
        let listener =
            world::json(std::slice::from_ref(resources.listener("10.96.0.1_7000").unwrap()))[0].clone();
        let key = wanted.as_object().unwrap().keys().next().unwrap();
        assert!(listener.to_string().contains(&format!("\"{key}\"")), "{key}: {listener:#}");
    }
    let policy = json!({"loadBalancer": {"consistentHash": {"httpHeaderName": "general"}}, "portLevelSettings": [
        {"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}},
        {"port": {"number": 90}, "loadBalancer": {"consistentHash": {"httpHeaderName": "port"}}}]});
    let resources = resources(&policy, "");
    assert_eq!(cluster_of(&resources, 80)["lb_policy"], "RANDOM");
    assert_has(&routes_of(&resources, "80")["hash_policy"], &json!([{"header": {"header_name": "general"}}]));
    assert_has(&routes_of(&resources, "90")["hash_policy"], &json!([{"header": {"header_name": "port"}}]));
}

#[test]
fn settings_of_the_mesh_hold_where_no_rule_says_anything() {
    let settings = "connectTimeout: 3s\ntcpKeepalive: {time: 10s, probes: 2}\ndefaultTrafficPolicy:\n  connectionPool: \
                    {tcp: {maxConnections: 77}}\n  outlierDetection: {consecutive5xxErrors: 6}\n\
                    defaultHttpRetryPolicy: {attempts: 1, retryOn: 'reset,503', perTryTimeout: 2s}\n";
    let unset = resources(&Value::Null, settings);
    assert_has(
        &cluster_of(&unset, 80),
        &json!({
        "connect_timeout": "3s", "outlier_detection": {"consecutive_5xx": 6},
        "circuit_breakers": {"thresholds": [{"max_connections": 77, "max_retries": u32::MAX}]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 10, "keepalive_probes": 2}}}),
    );
    assert_has(
        &routes_of(&unset, "80"),
        &json!({"timeout": "0s", "retry_policy": {"num_retries": 1,
        "retry_on": "reset,retriable-status-codes", "retriable_status_codes": [503], "per_try_timeout": "2s"}}),
    );
    let pool = json!({"connectionPool": {"tcp": {"connectTimeout": "1s", "tcpKeepalive": {"time": "5s"}}}});
    assert_has(
        &cluster(&pool, settings, 80),
        &json!({
        "connect_timeout": "1s", "outlier_detection": {"consecutive_5xx": 6},
        "circuit_breakers": {"thresholds": [{"max_connections": u32::MAX}]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 5, "keepalive_probes": 2}}}),
    );
    let usual = json!({"num_retries": 2, "host_selection_retry_max_attempts": "5", "retriable_status_codes": null,
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"});
    let route = routes_of(&resources(&Value::Null, ""), "80");
    assert_has(&route, &json!({"timeout": "0s", "retry_policy": usual}));
    assert!(route.to_string().contains("PreviousHostsPredicate"), "{route:#}");
    let off = routes_of(&resources(&Value::Null, "defaultHttpRetryPolicy: {attempts: 0}"), "80");
    assert_eq!(off["retry_policy"], Value::Null);
}

#[test]
fn clusters_speak_what_port_rule_and_mesh_say() {
    let spoken = |policy: &Value, settings: &str, port: u16| {
        let found = cluster(policy, settings, port);
        let options = &found["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        match (&options["use_downstream_protocol_config"], &options["explicit_http_config"]) {
            (Value::Null, Value::Null) => "bytes",
            (Value::Null, explicit) if explicit.get("http2_protocol_options").is_some() => "http2",
            (Value::Null, _) => "http1",
            _ => "as caller",
        }
    };
    let http = |settings: Value| json!({"connectionPool": {"http": settings}});
    let upgrade = http(json!({"h2UpgradePolicy": "UPGRADE"}));
    let not = http(json!({"h2UpgradePolicy": "DO_NOT_UPGRADE"}));
    let client = http(json!({"useClientProtocol": true}));
    let mesh = "h2UpgradePolicy: UPGRADE\n";
    for (policy, settings, wanted) in [
        (&Value::Null, "", ["as caller", "http2", "bytes", "as caller"]),
        (&upgrade, "", ["http2", "http2", "bytes", "as caller"]),
        (&Value::Null, mesh, ["http2", "http2", "bytes", "as caller"]),
        (&not, mesh, ["as caller", "http2", "bytes", "as caller"]),
        (&client, "", ["as caller", "as caller", "bytes", "as caller"]),
    ] {
        let found = [80, 90, 5432, 7000].map(|port| spoken(policy, settings, port));
        assert_eq!(found, wanted, "{policy} {settings}");
    }
    let streams =
        http(json!({"maxConcurrentStreams": 9, "http2KeepAlive": {"interval": "30s", "timeout": "5s"}}));
    let pings = json!({"interval": "30s", "timeout": "5s"});
    assert_has(
        &cluster(&streams, "", 90)["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"],
        &json!({"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 9,
            "connection_keepalive": pings}}}),
    );
    // The server's proxy speaks HTTP/1.1 to its application where HTTP is declared.
    let server = Resources::of(&self::mesh(&[upgrade], ""), "shop/reviews");
    let inbound = |port: u16| {
        let name = format!("inbound|{port}||");
        world::json(std::slice::from_ref(server.cluster(&name).unwrap()))[0].to_string()
    };
    assert!(
        inbound(80).contains("explicit_http_config") && !inbound(80).contains("http2"),
        "{}",
        inbound(80)
    );
    assert!(inbound(90).contains("use_downstream_protocol_config"), "{}", inbound(90));
}

#[test]
fn bytes_are_handed_on_as_the_rule_says() {
    let proxy = |policy: &Value| {
        let resources = resources(policy, "");
        let listener = resources.listener("10.96.0.1_5432").unwrap().clone();
        world::json(&[listener])[0]["filter_chains"][0]["filters"][0]["typed_config"].clone()
    };
    assert_has(
        &proxy(&Value::Null),
        &json!({"idle_timeout": "0s", "hash_policy": null,
        "max_downstream_connection_duration": null}),
    );
    let policy = json!({"connectionPool": {"tcp": {"idleTimeout": "5m", "maxConnectionDuration": "1h"}},
        "loadBalancer": {"consistentHash": {"useSourceIp": true}}});
    assert_has(
        &proxy(&policy),
        &json!({"idle_timeout": "300s", "hash_policy": [{"source_ip": {}}],
        "max_downstream_connection_duration": "3600s"}),
    );
    let by_header = json!({"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}});
    assert_has(&proxy(&by_header), &json!({"hash_policy": null}));
}
