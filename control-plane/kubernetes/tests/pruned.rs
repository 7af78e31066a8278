//! A pruned object parses like the whole one, so that the API and files give the same objects and diagnostics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::Path};

use eastwest_kubernetes::{CONFIG_MAP, RESOURCES, Resource, SECRET};
use eastwest_manifest::parse;
use eastwest_model::{MeshConfig, Origin, TrustDomain};
use serde_json::{Value, json};

fn resource(object: &Value) -> Option<&'static Resource> {
    let all = RESOURCES.iter().chain([CONFIG_MAP, SECRET]);
    all.into_iter().find(|resource| object["kind"] == resource.kind)
}

fn parsed(object: &Value) -> parse::Document {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    parse::object(object, &Origin::default(), &defaults)
}

/// Compares the parsed objects. Returns the lengths of the whole and the pruned JSON; `None` for other kinds.
fn compare(object: &Value) -> Option<(usize, usize)> {
    let whole = object.to_string();
    let pruned = resource(object)?.prune(whole.as_bytes()).unwrap();
    assert_eq!(parsed(&pruned), parsed(object), "{object:#}");
    Some((whole.len(), pruned.to_string().len()))
}

#[test]
fn every_object_of_the_worked_cases_parses_alike() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/tls");
    let mut compared = 0;
    for case in fs::read_dir(cases).unwrap() {
        let text = fs::read_to_string(case.unwrap().path().join("input.yaml")).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        compared += documents.iter().filter_map(compare).count();
    }
    assert!(compared > 500, "{compared} objects");
}

/// A Pod as an API server with an injected sidecar has it.
fn pod() -> Value {
    let long = "x".repeat(2000);
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/app:1", "imagePullPolicy": "Always",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                {"containerPort": 53, "protocol": "UDP"}],
            "env": [{"name": "PATH", "value": &long},
                {"name": "ISTIO_META_TLS_CLIENT_CERT_CHAIN", "value": "/etc/certs/cert.pem"},
                {"name": "ISTIO_META_TLS_CLIENT_KEY", "value": "/etc/certs/key.pem"},
                {"name": "ISTIO_META_TLS_CLIENT_ROOT_CERT", "value": "/etc/certs/root.pem"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 8080}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets"}]})
    };
    let mut native = container("istio-proxy");
    native["restartPolicy"] = json!("Always");
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "lastProbeTime": null,
            "lastTransitionTime": "2026-03-01T08:00:00Z", "reason": "R"})
    };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "reviews-0", "generateName": "reviews-", "namespace": "shop",
            "uid": "11111111-2222-3333-4444-555555555555", "resourceVersion": "1234", "generation": 1,
            "creationTimestamp": "2026-03-01T08:00:00Z", "deletionTimestamp": null,
            "deletionGracePeriodSeconds": 30, "finalizers": ["a/b"],
            "labels": {"app": "reviews", "version": "v1", "security.istio.io/tlsMode": "istio"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": &long,
                "sidecar.istio.io/status": &long, "networking.istio.io/exportTo": "."},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {(long.clone()): {}}}}]},
        "spec": {"serviceAccountName": "reviews", "serviceAccount": "reviews", "nodeName": "n1",
            "hostNetwork": true, "containers": [container("app")], "initContainers": [native],
            "restartPolicy": "Always", "priority": 0, "tolerations": [{"operator": "Exists"}],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "hostIP": "192.168.0.1",
            "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}], "hostIPs": [{"ip": "192.168.0.1"}],
            "conditions": [condition("PodReadyToStartContainers", "True"), condition("Ready", "True")],
            "containerStatuses": [{"name": "app", "ready": true, "imageID": &long}], "qosClass": "Burstable"}})
}

#[test]
fn a_pod_of_a_cluster_parses_alike_and_is_a_small_part_of_itself() {
    let (whole, pruned) = compare(&pod()).unwrap();
    assert!(pruned * 6 < whole, "{pruned} of {whole} bytes are kept");
    // Every field that is read makes a difference.
    for (path, other) in [
        ("/status/phase", json!("Failed")),
        ("/status/podIPs/1/ip", json!("fd00::8")),
        ("/status/conditions/1/status", json!("False")),
        ("/spec/nodeName", json!("n2")),
        ("/spec/serviceAccountName", json!("ratings")),
        ("/spec/containers/0/ports/0/name", json!("grpc")),
        ("/spec/initContainers/0/env/1/value", json!("/other.pem")),
        ("/metadata/uid", json!("other")),
        ("/metadata/deletionTimestamp", json!("2026-03-02T08:00:00Z")),
        ("/metadata/labels/version", json!("v2")),
    ] {
        let mut changed = pod();
        *changed.pointer_mut(path).unwrap() = other;
        compare(&changed).unwrap();
        assert_ne!(parsed(&changed), parsed(&pod()), "{path} is not read");
    }
}

#[test]
fn services_slices_and_policies_of_a_cluster_parse_alike() {
    let metadata = |name: &str| {
        json!({"name": name, "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-03-01T08:00:00Z", "labels": {"kubernetes.io/service-name": "reviews"},
            "annotations": {"networking.istio.io/exportTo": "*",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "kubectl"}]})
    };
    compare(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("reviews"),
        "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"], "type": "ClusterIP",
            "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "sessionAffinity": "None",
            "selector": {"app": "reviews"}, "publishNotReadyAddresses": true,
            "ports": [{"name": "http", "port": 9080, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}))
    .unwrap();
    compare(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata("reviews-1"), "ports": [{"name": "http", "port": 9080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.7"], "nodeName": "n1", "zone": "a", "hints": {"forZones": [{"name": "a"}]},
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "name": "reviews-0", "namespace": "shop", "uid": "u"}}]}))
    .unwrap();
    compare(&json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata("default"),
        "spec": {"mtls": {"mode": "strict"}, "misspelt": 1}, "status": {"conditions": [{"type": "Accepted"}]}}))
    .unwrap();
    compare(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
    )
    .unwrap();
}
