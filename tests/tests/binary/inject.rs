//! `eastwest inject`: manifests in, manifests out.

use std::fs;

use serde_json::Value;

use crate::harness::Bench;

/// A Deployment in the namespace `shop`, which asks for sidecars, and a Service.
const MANIFESTS: &str = r#"apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata:
      labels: {app: reviews}
      annotations: {ANNOTATION: "VALUE"}
    spec:
      containers:
      - {name: app, image: "reviews:1", env: [{name: A, value: "yes"}, {name: B, value: "0644"}]}
      volumes: [{name: keys, secret: {secretName: keys, defaultMode: 0440}}]
---
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {ports: [{port: 80}]}}
"#;

fn bench(annotation: &str, value: &str) -> Bench {
    let bench = Bench::new();
    let text = MANIFESTS.replace("ANNOTATION", annotation).replace("VALUE", value);
    fs::write(bench.path("shop.yaml"), text).unwrap();
    bench
}

#[test]
fn manifests_come_out_with_sidecars_and_otherwise_as_they_were() {
    let bench = bench("traffic.sidecar.istio.io/excludeInboundPorts", "9090");
    let once = bench.run(&["inject", "-f", "shop.yaml"]).success().to_owned();
    fs::write(bench.path("once.yaml"), &once).unwrap();
    let list: Value =
        serde_json::from_str(bench.run(&["inject", "-f", "once.yaml", "-o", "json"]).success()).unwrap();
    let [namespace, deployment, service] = &list["items"].as_array().unwrap()[..] else { panic!("{list:#}") };
    assert_eq!((&namespace["kind"], &service["spec"]["ports"][0]["port"]), (&"Namespace".into(), &80.into()));
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["initContainers"][0]["args"][1], "--exclude-inbound-ports=9090");
    assert_eq!(spec["initContainers"][1]["name"], "istio-proxy");
    assert_eq!(spec["containers"][0]["env"][0]["value"], "yes");
    assert_eq!(spec["containers"][0]["env"][1]["value"], "0644");
    assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 0o440);
    assert_eq!(bench.run(&["inject", "-f", "once.yaml"]).success(), once, "a second time changes nothing");
}

#[test]
fn explain_names_the_label_that_decided() {
    let bench = bench("sidecar.istio.io/inject", "false");
    let told = bench.run(&["inject", "-f", "shop.yaml", "--explain"]);
    let told = told.success();
    assert!(told.contains("Deployment/shop/reviews") && told.contains("no"), "{told}");
    assert!(told.contains("annotation sidecar.istio.io/inject=false of the pod"), "{told}");
    let rows: Value =
        serde_json::from_str(bench.run(&["inject", "-f", "shop.yaml", "--explain", "-o", "json"]).success())
            .unwrap();
    assert_eq!(rows[0]["sidecar"], "no");
}

#[test]
fn a_bad_annotation_prints_no_manifests_and_is_named() {
    let bench = bench("traffic.sidecar.istio.io/excludeOutboundPorts", "http");
    let refused = bench.run(&["inject", "-f", "shop.yaml"]);
    refused.failure(
        1,
        &[
            "Deployment/shop/reviews",
            "annotation traffic.sidecar.istio.io/excludeOutboundPorts",
            "\"http\" is not a port",
        ],
    );
    assert_eq!(refused.out, "");
}

#[test]
fn a_template_of_a_config_map_changes_all_pods() {
    let bench = bench("a", "b");
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: injection}\ndata:\n  template: |\n    \
                    spec: {containers: [{name: istio-proxy, image: other}]}\n";
    fs::write(bench.path("template.yaml"), template).unwrap();
    let once = bench.run(&["inject", "-f", "shop.yaml", "--template", "template.yaml"]);
    assert!(once.success().contains("image: other"), "{once:?}");
    fs::write(bench.path("template.yaml"), "spec: [1]\n").unwrap();
    let refused = bench.run(&["inject", "-f", "shop.yaml", "--template", "template.yaml"]);
    refused.failure(2, &["--template", "write a partial Pod"]);
    fs::write(bench.path("broken.yaml"), "kind: Pod\nkind: Pod\n").unwrap();
    bench.run(&["inject", "-f", "broken.yaml"]).failure(2, &["broken.yaml:1", "\"kind\" stands twice"]);
    bench.run(&["inject", "-f", "nowhere.yaml"]).failure(2, &["nowhere.yaml"]);
}
