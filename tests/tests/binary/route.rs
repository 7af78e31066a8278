//! `eastwest route`: where a request goes, from a directory and from a server.

use crate::harness::Bench;

/// A rule with a policy on two levels, and an object that is not in force.
const POLICIES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: bookshop}
spec:
  host: orders
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 7, connectTimeout: 250ms}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 90s}
    portLevelSettings:
    - port: {number: 80}
      loadBalancer: {consistentHash: {httpHeaderName: x-user}}
      outlierDetection: {consecutive5xxErrors: 5}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: bookshop}
spec: {hosts: [orders], http: [{route: [{destination: {host: catalog}}]}]}
";

const ORDERS: &str = "outbound|80||orders.bookshop.svc.cluster.local";

#[test]
fn a_request_is_followed_to_its_cluster_and_policy() {
    let bench = Bench::new();
    bench.write("traffic.yaml", POLICIES);
    let server = bench.serve(&[]);
    let mut answers = Vec::new();
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        let ask = |arguments: &[&str]| bench.run(&[&["route"], arguments, &source].concat());
        let request =
            ["bookshop/storefront-0", "POST", "http://orders/order?title=x", "--header", "x-user=a"];
        let run = ask(&[&request[..], &["-o", "json"]].concat());
        run.success();
        let found = run.json();
        assert_eq!(found["destinations"][0]["cluster"], ORDERS);
        assert_eq!(found["listener"], "0.0.0.0_80");
        assert!(found["virtual_service"].is_null());
        assert_eq!(found["retries"]["attempts"], 2);
        let policy = &found["policy"];
        assert_eq!(policy["object"], "DestinationRule/bookshop/orders");
        assert_eq!(policy["load_balancer"], "RING_HASH");
        assert_eq!(policy["hash"]["header"], "x-user");
        assert_eq!(policy["origins"]["load_balancer"]["level"], "port");
        // The entry for the port replaces the whole policy.
        assert!(policy["connection_pool"]["max_connections"].is_null());
        assert_eq!(policy["connection_pool"]["connect_timeout"], "10s");
        assert_eq!(policy["outlier_detection"]["consecutive_5xx"], 5);
        assert_eq!(found["request"]["method"], "POST");
        assert_eq!(found["request"]["headers"]["x-user"], "a");
        // What would change the answer and is not read is told.
        assert_eq!(found["warnings"][0]["object"], "VirtualService/bookshop/orders");
        answers.push(found);
        let table = ask(&["bookshop/storefront-0", "http://orders/"]).success().to_owned();
        for words in [
            &format!("Goes to {ORDERS}")[..],
            "RING_HASH",
            "header x-user",
            "not in force",
            "consecutive_5xx 5",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
        let other =
            ask(&["bookshop/storefront-0", "http://orders/", "--host", "nobody.example", "-o", "json"]);
        other.success();
        assert_eq!(other.json()["destinations"][0]["cluster"], "PassthroughCluster");
        ask(&["bookshop/nobody", "http://orders/"]).failure(2, &["bookshop/nobody"]);
        ask(&["bookshop/storefront-0", "orders:80"]).failure(2, &["URL", "http://HOST[:PORT]/PATH"]);
        ask(&["bookshop/storefront-0", "G T", "ftp://orders"]).failure(2, &["METHOD", "URL"]);
        ask(&["bookshop/storefront-0", "http://orders/", "--header", "x"])
            .failure(2, &["--header", "NAME=VALUE"]);
        ask(&["bookshop/storefront-0", "http://orders/", "--destination", "1"])
            .failure(2, &["--destination", "1 destinations"]);
    }
    assert_eq!(answers[0], answers[1], "a directory and a server");
    let (status, said) = server.page("/debug/route?client=bookshop/storefront-0&url=orders");
    assert_eq!(status, 400, "{said}");
}
