//! Credentials of rules: which workloads get them, and what is reported where one is missing (POLICY.md O7).

use std::sync::Arc;

use eastwest_engine::{Index, compute, settings::Secret};
use eastwest_manifest::parse;
use eastwest_model::{
    Change, Kind, MeshConfig, Meta, Object, ObjectRef, TrustDomain, policy::DestinationRule,
};
use serde_json::json;

use crate::mesh::{Mesh, networking, outsider, pod, rule, text};

const ENTRY: &str = "hosts: [api.example], location: MESH_EXTERNAL, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}], resolution: STATIC, endpoints: [{address: 192.0.2.1}]";

/// A certificate and its key, PEM.
fn pair(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn object(kind: &str, namespace: &str, name: &str, data: serde_json::Value) -> String {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, field: data})
        .to_string()
}

/// A Secret with all that a client needs.
fn secret(namespace: &str, name: &str) -> String {
    let (certificate, key) = pair(name);
    object("Secret", namespace, name, json!({"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}))
}

fn originating(namespace: &str, mode: &str, credential: &str) -> String {
    let spec = format!(
        "host: api.example, workloadSelector: {{matchLabels: {{app: client}}}}, trafficPolicy: {{tls: {{mode: {mode}, credentialName: {credential}}}}}"
    );
    rule(namespace, "api", 1, &spec)
}

/// `yard/client`, which the rules of the tests select, another pod of its namespace, and one of another namespace.
fn yard(more: &[String]) -> Mesh {
    let people = [
        pod("yard", "client", "10.0.1.1", "app: client"),
        pod("yard", "other", "10.0.1.2", "app: other"),
        pod("rail", "client", "10.0.2.2", "app: client"),
        outsider("yard", "plain", "10.0.1.9", "app: client"),
        networking("ServiceEntry", "yard", "api", 1, ENTRY),
    ];
    Mesh::of(&[&people[..], more].concat())
}

/// The names of the secrets that a workload gets.
fn handed(mesh: &Mesh, workload: &str) -> Vec<String> {
    let tls = compute::workload_tls(mesh.snapshot(), &workload.parse().unwrap()).unwrap();
    let clusters = tls.outbound.services.values().flat_map(|service| &service.clusters);
    clusters.flat_map(|cluster| cluster.secrets.keys()).map(ToString::to_string).collect()
}

#[test]
fn o7_a_secret_is_for_the_selected_clients_of_its_namespace() {
    let rules = [originating("yard", "MUTUAL", "client"), originating("rail", "MUTUAL", "yard/client")];
    let mesh = yard(&[&rules[..], &[secret("yard", "client")]].concat());
    assert_eq!(handed(&mesh, "yard/client"), ["kubernetes://client", "kubernetes://client-cacert"]);
    assert_eq!(handed(&mesh, "yard/other"), [""; 0], "the rule does not select it");
    assert_eq!(handed(&mesh, "rail/client"), [""; 0], "the Secret is of another namespace");
    assert_eq!(
        mesh.explain("yard/client", "api.example", 80).unwrap().verdict,
        eastwest_engine::explain::Verdict::Tls
    );
    let told = mesh.findings("DestinationRule/rail/api").concat();
    assert!(told.contains("Secret/yard/client is for clients in namespace yard alone"), "{told}");
    let simple = yard(&[originating("yard", "SIMPLE", "kubernetes://client"), secret("yard", "client")]);
    assert_eq!(handed(&simple, "yard/client"), ["kubernetes://client-cacert"], "SIMPLE needs no key");
}

#[test]
fn o7_a_bundle_beside_goes_before_one_inside() {
    let (beside, _) = pair("beside");
    let beside_object = object("Secret", "yard", "client-cacert", json!({"cacert": beside}));
    let mesh = yard(&[originating("yard", "MUTUAL", "client"), secret("yard", "client"), beside_object]);
    let tls = compute::workload_tls(mesh.snapshot(), &"yard/client".parse().unwrap()).unwrap();
    let cluster = &tls.outbound.services.values().next().unwrap().clusters[0];
    let Secret::Trust(bundle) = &cluster.secrets["kubernetes://client-cacert"] else { panic!("{cluster:?}") };
    assert_eq!(*bundle.certificates, *beside);
}

#[test]
fn o7_a_config_map_needs_no_selector_and_serves_other_namespaces() {
    let (roots, _) = pair("roots");
    let spec =
        "host: api.example, trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://yard/roots'}}";
    let parts =
        [rule("yard", "api", 1, spec), object("ConfigMap", "yard", "roots", json!({"ca.crt": roots}))];
    let mesh = yard(&parts);
    for client in ["yard/client", "yard/other", "rail/client"] {
        assert_eq!(handed(&mesh, client), ["configmap://yard/roots-cacert"], "{client}");
    }
}

#[test]
fn o7_what_is_missing_is_named_with_its_rule_and_refuses() {
    let (certificate, _) = pair("x");
    let cases: [(&str, &str, &[String], &str); 7] = [
        ("MUTUAL", "client", &[], "no certificate: Secret/yard/client is not there"),
        ("SIMPLE", "client", &[], "no trust bundle: Secret/yard/client is not there"),
        ("SIMPLE", "client", &[secret("rail", "client")], "Secret/yard/client is not there"),
        (
            "MUTUAL",
            "client",
            &[object("Secret", "yard", "client", json!({"ca.crt": certificate}))],
            "no certificate: Secret/yard/client has neither tls.crt and tls.key nor cert and key",
        ),
        (
            "MUTUAL",
            "client",
            &[object("Secret", "yard", "client", json!({"tls.crt": certificate}))],
            "no certificate: Secret/yard/client has tls.crt, but no tls.key, it must be corrected",
        ),
        (
            "SIMPLE",
            "client",
            &[object("Secret", "yard", "client", json!({"tls.crt": certificate}))],
            "no trust bundle: Secret/yard/client has neither ca.crt nor cacert",
        ),
        ("SIMPLE", "'kubernetes-gateway://yard/client'", &[], "is nothing that a sidecar may read"),
    ];
    for (mode, credential, more, golden) in cases {
        let mesh = yard(&[&[originating("yard", mode, credential)], more].concat());
        let told = mesh.findings("DestinationRule/yard/api").join("\n");
        assert!(told.contains(golden) && told.contains("(rule O7)"), "{golden}\n{told}");
        assert!(told.contains("none goes out in plaintext"), "{told}");
        let explained = mesh.explain("yard/client", "api.example", 80).unwrap();
        assert_eq!(explained.verdict, eastwest_engine::explain::Verdict::Refused, "{explained:?}");
        assert!(explained.reason.contains(golden), "{}", explained.reason);
        assert_eq!(text(&mesh.call("yard/client", "api.example", 80, None)["mode"]), mode, "never plaintext");
        // The rule does not apply to workloads without a proxy.
        let plain = mesh.explain("yard/plain", "api.example", 80).unwrap();
        assert_eq!(plain.verdict, eastwest_engine::explain::Verdict::Plaintext);
    }
}

#[test]
fn a_renewed_secret_concerns_the_hosts_of_its_rules_alone() {
    let parts = [originating("yard", "MUTUAL", "client"), secret("yard", "client"), secret("yard", "unused")];
    let (before, after) =
        (yard(&parts), yard(&[parts[0].clone(), secret("yard", "client"), parts[2].clone()]));
    let fingerprint = |mesh: &Mesh| {
        let explained = mesh.explain("yard/client", "api.example", 80).unwrap();
        let step = explained
            .trace
            .iter()
            .find(|step| step.reason.to_string().contains("gives the certificate"))
            .unwrap()
            .clone();
        assert_eq!(step.object.unwrap().to_string(), "Secret/yard/client");
        step.reason
    };
    assert_ne!(fingerprint(&before), fingerprint(&after));
}

/// No manifest can name a ConfigMap of another namespace (V2). If a rule did, it would follow its changes all the same.
#[test]
fn o7_a_changed_config_map_concerns_the_rules_of_every_namespace() {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    let mut index = Index::new(defaults.clone());
    let mut apply = |object| index.apply(Change::Upsert(object));
    let parsed = |text: &str| parse::documents(text, "mesh.yaml", &defaults).objects.remove(0);
    let spec =
        "host: api.example, trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://rail/roots'}}";
    let Object::DestinationRule(rule) = parsed(&rule("rail", "api", 1, spec)) else { panic!() };
    let object = ObjectRef::new(Kind::DestinationRule, "yard", "api");
    let moved =
        DestinationRule { meta: Meta { object, ..rule.meta.clone() }, ..DestinationRule::clone(&rule) };
    apply(Object::DestinationRule(Arc::new(moved)));
    for (namespace, concerned) in [("rail", true), ("yard", false)] {
        let (roots, _) = pair(namespace);
        let dirty = apply(parsed(&self::object("ConfigMap", namespace, "roots", json!({"ca.crt": roots}))));
        let hosts = dirty.outbound_hosts();
        assert_eq!(hosts.contains(&eastwest_model::Host::new("api.example")), concerned, "{namespace}");
    }
}
