//! What the API forbids.

use eastwest_kubernetes::State;
use eastwest_tests::process::until;
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    cluster::Cluster,
    follower::{Follower, names, quick},
    replica::put,
    server::Server,
};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A service account with a role of these rules; its token and the path of the role.
pub(crate) fn account(cluster: &Cluster, namespace: &str, rules: &Value) -> (String, String) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"generateName": "eastwest-test-"}, "rules": rules});
    let role = cluster.create(&format!("{RBAC}/clusterroles"), &role);
    let role = role["metadata"]["name"].as_str().unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"generateName": "eastwest-test-"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    cluster.create(&format!("{RBAC}/clusterrolebindings"), &binding);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600}});
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token");
    let token = cluster.ask("POST", &path, Some(&request));
    (token["status"]["token"].as_str().unwrap().to_owned(), format!("{RBAC}/clusterroles/{role}"))
}

pub(crate) fn rule(groups: &[&str], resources: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": ["get", "list", "watch"]})
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_forbidden_kind_is_named_with_the_missing_rule_and_followed_once_it_is_allowed() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    cluster.pod(&namespace, "reviews");
    let rules = [
        rule(&[""], &["namespaces", "nodes", "services", "serviceaccounts"]),
        rule(
            &["discovery.k8s.io", "security.istio.io", "networking.istio.io", "apiextensions.k8s.io"],
            &["*"],
        ),
    ];
    let (token, role) = account(&cluster, &namespace, &json!(rules));
    let follower = Follower::start(&cluster.kubeconfig_of(&token), quick());
    let report = until("all others", PATIENCE, || {
        let report = follower.report();
        let others = report.sources.iter().filter(|source| source.kind != "Pod");
        Ok((others.clone().count() > 10 && others.clone().all(|source| source.live && source.synced))
            .then_some(report))
    })
    .unwrap();
    let pods = until("a refusal", PATIENCE, || {
        Ok(Some(follower.status("Pod")).filter(|pods| pods.state == State::Forbidden))
    })
    .unwrap();
    assert!(!pods.live && !pods.synced && !report.synced, "{pods:?}");
    let error = pods.last_error.unwrap().message;
    assert!(error.contains(r#"apiGroups: [""], resources: ["pods"], verbs: [get, list, watch]"#), "{error}");
    assert!(error.contains("403") && error.contains("cannot watch resource"), "{error}");
    assert!(follower.unsynced().iter().any(|reason| reason.contains(&error)), "{:?}", follower.unsynced());

    cluster.change(&role, |role| role["rules"].as_array_mut().unwrap().push(rule(&[""], &["pods"])));
    follower.wait("the pod", |world| names(world, "Pod", &namespace).len() == 1);
    follower.wait_until_live();
    // Rights that are withdrawn take nothing away but freshness.
    cluster.change(&role, |role| drop(role["rules"].as_array_mut().unwrap().pop()));
    until("a refusal again", PATIENCE, || {
        Ok((follower.status("Pod").state == State::Forbidden).then_some(()))
    })
    .unwrap();
    assert!(!follower.status("Pod").live && follower.status("Pod").synced);
    assert_eq!(follower.names("Pod", &namespace).len(), 1);
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn without_a_right_to_definitions_the_discovery_documents_tell_what_is_served() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let rules = [
        rule(&[""], &["namespaces", "nodes", "services", "serviceaccounts", "pods"]),
        rule(&["discovery.k8s.io", "security.istio.io", "networking.istio.io"], &["*"]),
    ];
    let (token, _) = account(&cluster, &namespace, &json!(rules));
    let follower = Follower::start(&cluster.kubeconfig_of(&token), quick());
    follower.wait_until_live();
    let report = follower.report();
    assert_eq!(report.definitions, "polled");
    let definitions = follower.status("CustomResourceDefinition");
    assert_eq!(definitions.state, State::Forbidden);
    assert!(definitions.last_error.unwrap().message.contains("apiextensions.k8s.io"));
    assert!(follower.unsynced().is_empty(), "{:?}", follower.unsynced());

    if follower.status("Sidecar").state == State::Missing {
        cluster.define("Sidecar", "sidecars", "networking.istio.io", &["v1"]);
    }
    until("its watch", PATIENCE, || Ok((follower.status("Sidecar").state == State::Watching).then_some(())))
        .unwrap();
}

/// A right to write that the start needs holds readiness back and is named; the process goes on when it is given.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn without_a_right_to_change_its_secrets_it_waits_and_goes_on_when_it_is_given() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let with = |verbs: &[&str]| {
        json!({"apiGroups": ["", "coordination.k8s.io", "certificates.k8s.io"],
            "resources": ["secrets", "configmaps", "leases", "clustertrustbundles", "signers"], "verbs": verbs})
    };
    let reading = [
        rule(&[""], &["namespaces", "nodes", "services", "serviceaccounts", "pods", "configmaps", "secrets"]),
        rule(
            &["discovery.k8s.io", "security.istio.io", "networking.istio.io", "apiextensions.k8s.io"],
            &["*"],
        ),
    ];
    // Secrets can be made; a key that is added to one that is there is a change.
    put(&cluster, &namespace, "eastwest-ca-state", &[]);
    let (token, role) = account(&cluster, &namespace, &json!([reading[0], reading[1], with(&["create"])]));
    let kubeconfig = cluster.kubeconfig_of(&token).display().to_string();
    let mut server = Server::spawn(&kubeconfig, &["--namespace", &namespace]);
    let missing = r#"resources: ["secrets"], resourceNames: ["eastwest-ca-state"], verbs: [patch]"#;
    until("the missing right", PATIENCE, || {
        let (status, text) = server.readyz();
        Ok((status == 503 && text.contains(missing)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} {}", server.readyz(), server.process.output()));
    assert_eq!(server.get("/healthz").0, 200, "it lives");
    // What an operator asks meanwhile.
    let metrics = server.get("/metrics").1;
    let known = |line: &str| metrics.lines().any(|one| one == line);
    assert!(known(r#"eastwest_source_synced{resource="pods"} 1"#), "{metrics}");
    assert!(metrics.contains("eastwest_build_info{"), "{metrics}");
    assert!(server.get("/debug/list").1.contains("/debug/sources "));
    let table = server.ask(&["status", "--sources"]);
    for name in ["istio-ca-secret", "eastwest-ca-state", "cacerts"] {
        let row = format!("secrets {namespace}/{name}");
        assert!(table.lines().any(|line| line.starts_with(&row) && line.contains("watching")), "{table}");
        assert!(known(&format!("eastwest_source_live{{resource=\"{row}\"}} 1")), "{metrics}");
    }
    let named = server.process.output().lines().filter(|line| line.contains(missing)).count();
    assert_eq!(named, 1, "once a minute: {}", server.process.output());
    cluster.change(&role, |role| {
        role["rules"].as_array_mut().unwrap().push(with(&["get", "update", "patch", "attest"]));
    });
    server.wait_until_ready();
}
