//! What kubectl shows of what eastwest wrote.

use std::{path::Path, process::Command};

use eastwest_tests::{bookshop, kubernetes::read_manifests, process::run, programs};
use serde_json::json;

use crate::{cluster::Cluster, server::Server};

/// kubectl with the rights of the administrator.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    home: tempfile::TempDir,
}

impl Kubectl<'_> {
    /// What a command prints; it is printed here as well.
    fn run(&self, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        let mut command = Command::new(programs::kubectl().unwrap());
        command.env_clear().env("HOME", self.home.path()).env("KUBECONFIG", self.cluster.kubeconfig());
        command.args(words).current_dir(self.home.path());
        let said = run(command).unwrap();
        println!("$ kubectl {line}\n{said}");
        said
    }
}

/// The bookshop in the cluster, with Istio's definitions.
pub(crate) fn apply_bookshop(cluster: &Cluster) {
    let definitions = programs::istio_definitions().unwrap();
    cluster.programs.as_ref().unwrap().apply(Path::new(&definitions)).unwrap();
    cluster.apply(&read_manifests(&bookshop::manifests()).unwrap());
}

/// A rule that the schema lets through and that makes no sense; its path.
pub(crate) fn apply_mistake(cluster: &Cluster, mode: &str) -> String {
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "orders", "namespace": "bookshop"},
        "spec": {"host": "orders.bookshop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": mode}}}});
    cluster.apply(&[rule]).pop().unwrap()
}

#[test]
#[ignore = "needs the programs that cargo xtask tools fetches"]
fn kubectl_shows_what_eastwest_wrote() {
    let Some(cluster) = Cluster::start_own() else { return };
    apply_bookshop(&cluster);
    apply_mistake(&cluster, "MUTUAL");
    let _server = Server::start(&cluster, &["--namespace", "istio-system"]);
    let kubectl = Kubectl { cluster: &cluster, home: tempfile::tempdir().unwrap() };

    kubectl
        .run("wait --namespace bookshop --for=condition=Accepted=false destinationrule/orders --timeout=30s");
    kubectl.run("wait --namespace bookshop --for=condition=Effective destinationrule/catalog --timeout=30s");
    let columns = r#"-o=custom-columns=NAME:.metadata.name,ACCEPTED:.status.conditions[?(@.type=="Accepted")].status,EFFECTIVE:.status.conditions[?(@.type=="Effective")].reason"#;
    let table = kubectl.run(&format!("get destinationrules --namespace bookshop {columns}"));
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    for row in [["catalog", "True", "Effective"], ["orders", "False", "NoEffect"]] {
        assert!(rows.contains(&row.to_vec()), "{row:?}");
    }
    let path = r#"-o=jsonpath={.status.conditions[?(@.type=="Accepted")].message}"#;
    let message = kubectl.run(&format!("get destinationrule orders --namespace bookshop {path}"));
    assert!(message.starts_with("spec.trafficPolicy.tls.clientCertificate: missing"), "{message}");
    let described = kubectl.run("describe destinationrule orders --namespace bookshop");
    let (_, events) = described.split_once("Events:").unwrap();
    assert!(events.contains("Refused") && events.contains(&message), "{events}");
    let events = kubectl.run("events --namespace bookshop --for destinationrule/orders");
    let refused: Vec<_> = events.lines().filter(|line| line.contains("Refused")).collect();
    assert!(refused.len() == 1 && refused[0].contains("Warning") && refused[0].contains(&message));
    let events = kubectl.run("get events --namespace bookshop --field-selector reason=Refused");
    assert!(events.contains("destinationrule/orders") && events.contains(&message));

    let lease = kubectl.run("get lease eastwest-leader --namespace istio-system");
    assert!(lease.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().contains('_'), "a holder");
    let roots = kubectl.run(
        "get configmaps --all-namespaces --field-selector metadata.name=istio-ca-root-cert --selector istio.io/config=true",
    );
    for namespace in ["bookshop", "kube-system", "payments"] {
        assert!(roots.lines().any(|row| row.starts_with(namespace)), "{namespace}");
    }
    assert!(kubectl.run("get clustertrustbundles").contains("eastwest.dev:workload:root"));
    assert!(kubectl.run("get secrets --namespace istio-system").contains("istio.io/ca-root"));

    // The mistake is corrected.
    apply_mistake(&cluster, "ISTIO_MUTUAL");
    kubectl.run("wait --namespace bookshop --for=condition=Accepted destinationrule/orders --timeout=30s");
    kubectl.run("wait --namespace bookshop --for=condition=Effective destinationrule/orders --timeout=30s");
}

/// What `eastwest inject` prints is valid to the API, field by field, with native sidecars and without.
#[test]
#[ignore = "needs the programs that cargo xtask tools fetches"]
fn the_api_takes_injected_manifests() {
    let Some(cluster) = Cluster::start_own() else { return };
    let kubectl = Kubectl { cluster: &cluster, home: tempfile::tempdir().unwrap() };
    let annotations = json!({
        "traffic.sidecar.istio.io/excludeInboundPorts": "9090",
        "sidecar.istio.io/proxyCPU": "100m",
        "sidecar.istio.io/userVolume": r#"{"certs": {"secret": {"secretName": "c"}}}"#,
        "sidecar.istio.io/userVolumeMount": r#"[{"name": "certs", "mountPath": "/etc/certs"}]"#,
        "proxy.istio.io/config": "{concurrency: 1, holdApplicationUntilProxyStarts: true}",
    });
    let template = json!({"metadata": {"labels": {"app": "a"}, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app"}]}});
    let selector = json!({"matchLabels": {"app": "a"}});
    let job = json!({"metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app"}], "restartPolicy": "Never"}});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"selector": selector, "template": template}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a"},
            "spec": {"selector": selector, "serviceName": "a", "template": template}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"},
            "spec": {"selector": selector, "template": template}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": job}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job}}}},
    ]});
    let file = kubectl.home.path().join("objects.json");
    std::fs::write(&file, objects.to_string()).unwrap();
    for native in ["--native-sidecar=true", "--native-sidecar=false"] {
        let mut inject = Command::new(programs::eastwest().unwrap());
        inject.args(["inject", native, "-f"]).arg(&file);
        let injected = kubectl.home.path().join("injected.yaml");
        std::fs::write(&injected, run(inject).unwrap()).unwrap();
        let said = kubectl.run(&format!(
            "create --dry-run=server --validate=strict --namespace default -f {}",
            injected.display()
        ));
        assert_eq!(said.matches("created (server dry run)").count(), 5, "{said}");
    }
}
