//! eastwest as a pod of the cluster, with the rights of docs/KUBERNETES.md and no others.

use std::{fs, process::Command};

use eastwest_tests::{pages::page, process::until, programs};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    cluster::Cluster,
    kubectl::{apply_bookshop, apply_mistake},
    server::Server,
};

/// The account of the listing.
const OURSELVES: (&str, &str) = ("istio-system", "eastwest");
const ROLES: [&str; 2] = [
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/eastwest",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/roles/eastwest",
];
const BUNDLE: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles/eastwest.dev:workload:root";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/eastwest-leader";

/// The objects of the listing.
fn listing() -> Vec<Value> {
    let page = page("KUBERNETES.md").unwrap();
    let (_, rights) = page.split_once("\n## Rights\n").unwrap();
    let (_, yaml) = rights.split_once("```yaml\n").unwrap();
    let (yaml, _) = yaml.split_once("```").unwrap();
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// eastwest as a pod: with the files, the variables and the token that a kubelet would give it.
fn start_as_pod(cluster: &Cluster, flags: &[&str]) -> Server {
    let programs = cluster.programs.as_ref().unwrap();
    let given = cluster.dir().join("given");
    fs::create_dir_all(&given).unwrap();
    fs::copy(programs.ca(), given.join("ca.crt")).unwrap();
    fs::write(given.join("namespace"), OURSELVES.0).unwrap();
    fs::write(given.join("token"), programs.token(OURSELVES, None, None).unwrap()).unwrap();
    let mount = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount \
                 && mount --bind \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount]).arg(&given).arg(programs::eastwest().unwrap());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_PORT", programs.port().to_string());
    command.env("POD_NAME", "eastwest-0").env("POD_NAMESPACE", OURSELVES.0);
    Server::spawn_by(command, flags)
}

/// The first line of a log that tells of a missing right.
fn refusal(server: &Server) -> Option<String> {
    let said = server.process.output();
    let refused = |line: &&str| [" 403", "orbidden", "add to "].iter().any(|word| line.contains(word));
    said.lines().find(refused).map(str::to_owned)
}

/// Whether a line of the log names the rule, or a part of it, as the one to add.
fn names(log: &str, rule: &Value) -> bool {
    let texts = |field: &str| {
        let all = rule[field].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let (resources, verbs) = (texts("resources"), texts("verbs"));
    let added = log.lines().filter_map(|line| Some(line.split_once("add to ")?.1));
    let has = |line: &str, words: &[String]| words.iter().any(|word| line.contains(word.as_str()));
    added.into_iter().any(|line| has(line, &resources) && has(line, &verbs))
}

/// Waits for a condition; the error has what the server said.
fn wait(server: &Server, what: &str, condition: impl Fn() -> bool) {
    until(what, PATIENCE, || Ok(condition().then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {:?} {}", server.readyz(), server.process.output()));
}

/// Removes what eastwest wrote, so that it has to write everything again.
fn forget(cluster: &Cluster) {
    for path in [
        BUNDLE,
        LEASE,
        "/api/v1/namespaces/istio-system/secrets/istio-ca-secret",
        "/api/v1/namespaces/istio-system/secrets/eastwest-ca-state",
        "/api/v1/namespaces/bookshop/configmaps/istio-ca-root-cert",
    ] {
        cluster.try_ask("DELETE", path, None);
    }
    let rule = apply_mistake(cluster, "MUTUAL");
    cluster.delete(&rule);
    apply_mistake(cluster, "MUTUAL");
    let policies = "/apis/security.istio.io/v1/namespaces/payments/peerauthentications/default/status";
    cluster.send("PATCH", policies, "application/merge-patch+json", Some(&json!({"status": null})));
}

#[test]
#[ignore = "needs root and the Kubernetes API that cargo xtask tools builds"]
fn these_rights_suffice_and_each_is_needed() {
    let Some(cluster) = Cluster::start_own() else { return };
    apply_bookshop(&cluster);
    cluster.apply(&listing());
    let mistake = apply_mistake(&cluster, "MUTUAL");
    let mut server = start_as_pod(&cluster, &["--token-review"]);
    server.wait_until_ready();
    exercise(&cluster, &server, &mistake);
    // As in a rollout: another process reads what this one wrote, and takes the Lease over.
    server.terminate();
    assert_eq!(refusal(&server), None, "{}", server.process.output());
    let mut server = start_as_pod(&cluster, &[]);
    server.wait_until_ready();
    exercise(&cluster, &server, &mistake);
    server.terminate();
    assert_eq!(refusal(&server), None, "{}", server.process.output());

    let roles = ROLES.map(|role| cluster.ask("GET", role, None));
    for (path, role) in ROLES.iter().zip(&roles) {
        for (place, rule) in role["rules"].as_array().unwrap().iter().enumerate() {
            let optional = !rule["nonResourceURLs"].is_null()
                || rule["resources"] == json!(["tokenreviews"])
                || rule["verbs"] == json!(["list", "delete"]);
            if optional {
                continue;
            }
            forget(&cluster);
            cluster.change(path, |role| drop(role["rules"].as_array_mut().unwrap().remove(place)));
            let server = start_as_pod(&cluster, &[]);
            wait(&server, &format!("a word about {rule}"), || names(&server.process.output(), rule));
            drop(server);
            let rules = &role["rules"];
            cluster.change(path, |role| role["rules"] = rules.clone());
        }
    }
}

/// Everything that a control plane does in a cluster.
fn exercise(cluster: &Cluster, server: &Server, mistake: &str) {
    let programs = cluster.programs.as_ref().unwrap();
    // Roots in a new namespace and in a bundle, the Lease, the Secrets.
    let fresh = cluster.namespace();
    let has = |path: &str| cluster.try_ask("GET", path, None).0 == 200;
    wait(server, "the roots", || has(&format!("/api/v1/namespaces/{fresh}/configmaps/istio-ca-root-cert")));
    wait(server, "the bundle", || has(BUNDLE));
    let holder = cluster.ask("GET", LEASE, None)["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    assert!(holder.starts_with("eastwest-0_"), "{holder}");
    let secrets = cluster.names("/api/v1/namespaces/istio-system/secrets");
    assert!(secrets.contains("istio-ca-secret") && secrets.contains("eastwest-ca-state"), "{secrets:?}");
    // A status and an Event.
    let refused = || {
        let status = cluster.ask("GET", mistake, None)["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Accepted" && one["status"] == "False")
    };
    wait(server, "a status", refused);
    let events = cluster.ask("GET", "/apis/events.k8s.io/v1/namespaces/bookshop/events", None);
    assert!(events["items"].as_array().unwrap().iter().any(|one| one["reason"] == "Refused"), "{events}");
    // A certificate.
    let pod = cluster.ask("GET", "/api/v1/namespaces/bookshop/pods/storefront-0", None);
    let token = programs.token(("bookshop", "storefront"), Some("istio-ca"), Some(&pod)).unwrap();
    let path = "/api/v1/namespaces/bookshop/configmaps/istio-ca-root-cert";
    let roots = cluster.ask("GET", path, None)["data"]["root-cert.pem"].as_str().unwrap().to_owned();
    server.issue(&token, "bookshop/storefront", &roots).unwrap();
    // A Secret that is lost is put back.
    let secret = "/api/v1/namespaces/istio-system/secrets/istio-ca-secret";
    cluster.delete(secret);
    wait(server, "the Secret again", || has(secret));
}
