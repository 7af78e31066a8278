//! A process that starts with objects that are refused: what was good before it started is not known to it.

use eastwest_tests::process::until;
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    cluster::{Cluster, DEFINITIONS},
    server::Server,
    statuses::define,
};

fn policies(namespace: &str) -> String {
    format!("/apis/security.istio.io/v1/namespaces/{namespace}/peerauthentications")
}

fn set_mesh(cluster: &Cluster, namespace: &str, text: &str) {
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"},
        "data": {"mesh": text}});
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    if cluster.try_ask("POST", &path, Some(&settings)).0 == 409 {
        cluster.change(&format!("{path}/istio"), |now| now["data"]["mesh"] = json!(text));
    }
}

/// Waits until the server is not ready for a reason that has all of these words.
fn wait_for_reason(server: &Server, words: &[&str]) {
    until("the reason", PATIENCE, || {
        let (status, text) = server.readyz();
        Ok((status == 503 && words.iter().all(|word| text.contains(word))).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} {}", server.readyz(), server.process.output()));
}

/// Defaults in place of settings that do not parse would have another trust domain.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn settings_of_the_mesh_that_are_refused_hold_a_start_up_and_an_edit_changes_nothing() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let flags = ["--namespace", &namespace, "--root-namespace", &namespace];
    let spawn = || Server::spawn(&cluster.kubeconfig().display().to_string(), &flags);
    set_mesh(&cluster, &namespace, "trustDomain: A_B!");
    let mut server = spawn();
    let settings = format!("ConfigMap/{namespace}/istio is refused");
    wait_for_reason(&server, &[&settings, "data.mesh.trustDomain: \"A_B!\" is refused"]);
    assert!(server.process.output().contains("the server does not start"), "{}", server.process.output());
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let told = |count: usize| {
        until("an Event on the ConfigMap", PATIENCE, || {
            let events = cluster.ask("GET", &path, None);
            let events = events["items"].as_array().cloned().unwrap_or_default();
            let of_settings = events.iter().filter(|one| one["regarding"]["name"] == "istio");
            let notes: Vec<_> = of_settings.map(|one| one["note"].to_string()).collect();
            Ok((notes.len() == count).then_some(notes))
        })
        .unwrap()
    };
    assert!(told(1)[0].contains("data.mesh.trustDomain"), "{:?}", told(1));
    set_mesh(&cluster, &namespace, "trustDomain: example.org");
    server.wait_until_ready();
    assert_eq!(server.page("/debug/ca")["trust_domain"], "example.org");

    set_mesh(&cluster, &namespace, "trustDomain: A_B!");
    let errors = server.wait_for_page("/debug/config_errors", "the mistake", |page| page[0].is_object());
    assert!(
        errors[0]["message"].as_str().unwrap().ends_with("what was good before stays in force"),
        "{errors}"
    );
    assert_eq!(server.page("/debug/ca")["trust_domain"], "example.org");
    assert_eq!(server.readyz().0, 200);
    told(2);
    drop(server);
    let mut server = spawn();
    wait_for_reason(&server, &[&settings]);
    cluster.delete(&format!("/api/v1/namespaces/{namespace}/configmaps/istio"));
    server.wait_until_ready();
}

/// What is STRICT does not become PERMISSIVE by a restart, and where nothing can be in force, that is said aloud.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_policy_that_is_refused_at_a_start_up_is_in_force_as_far_as_it_is_strict_or_named_aloud() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    define(&cluster, "PeerAuthentication", "peerauthentications", "security.istio.io");
    cluster.pod(&namespace, "reviews-0");
    let policy = |name: &str, spec: Value| {
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": name}, "spec": spec});
        let made = || cluster.try_ask("POST", &policies(&namespace), Some(&policy)).0 == 201;
        until("the definition", PATIENCE, || Ok(made().then_some(()))).unwrap();
    };
    // Ports need a selector.
    policy("default", json!({"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}));
    let selector = json!({"matchLabels": {"app": "reviews-0"}});
    policy("reviews", json!({"selector": selector, "mtls": {"mode": "STRIKT"}}));
    let server = Server::start(&cluster, &["--namespace", &namespace]);
    let settings = server.page(&format!("/debug/tls?workload={namespace}/reviews-0"));
    assert_eq!(settings["inbound"]["default"], "STRICT", "{settings}");
    let message = |name: &str| {
        let path = format!("{}/{name}", policies(&namespace));
        until("a status", PATIENCE, || {
            let policy = cluster.ask("GET", &path, None);
            let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let accepted = conditions.into_iter().find(|one| one["type"] == "Accepted");
            Ok(accepted.and_then(|one| one["message"].as_str().map(str::to_owned)))
        })
        .unwrap()
    };
    assert!(message("default").ends_with("so the rest of the object is in force"), "{}", message("default"));
    assert!(message("reviews").ends_with("so nothing of it is in force"), "{}", message("reviews"));
    let log = server.process.output();
    let aloud = |line: &&str| line.contains("ERROR") && line.contains("nothing of it is in force");
    let aloud: Vec<_> = log.lines().filter(aloud).collect();
    assert!(aloud.len() == 1 && aloud[0].contains(&format!("{namespace}/reviews")), "{log}");
    // A definition that is deleted takes its objects along, which is said.
    let metrics = server.get("/metrics").1;
    cluster.delete(&format!("{DEFINITIONS}/peerauthentications.security.istio.io"));
    let gone = "no longer serves this resource";
    until("a word", PATIENCE, || Ok(server.process.output().contains(gone).then_some(()))).unwrap();
    assert!(metrics.lines().any(|line| line == "eastwest_config_not_in_force 1"), "{metrics}");
}
