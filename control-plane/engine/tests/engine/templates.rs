//! Manifests as they lie in git: no Pods, no cluster IPs. What is said about them is what holds once a cluster runs them.

use eastwest_engine::{
    diff,
    explain::{self, ExplainError, Explanation, Verdict},
    report,
};
use eastwest_model::{Kind, ObjectRef};

use crate::mesh::{Mesh, outsider, pod, yard_and_rail};

/// The client `git/client` and the server `git/web`.
struct World {
    /// `clusterIP: …` of the Service, or nothing.
    address: &'static str,
    port: &'static str,
    sidecar: bool,
    policies: Vec<String>,
}

impl World {
    fn service(&self, address: &str) -> String {
        let (address, port) =
            (if address.is_empty() { String::new() } else { format!("clusterIP: {address},") }, self.port);
        let other = |name: &str, address: &str| {
            format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: git}},
               spec: {{{address} selector: {{app: {name}}}, ports: [{{name: {port}, port: 80, targetPort: 8080}}]}}}}"
        )
        };
        // Another host of the port must not matter.
        [other("web", &address), other("other", "")].join("\n---\n")
    }

    /// As it lies in git.
    fn written(&self) -> Mesh {
        self.written_for(pod("git", "client", "10.0.0.1", "app: client"))
    }

    fn written_for(&self, client: String) -> Mesh {
        let inject = if self.sidecar { ", sidecar.istio.io/inject: 'true'" } else { "" };
        let web = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: git}}, spec: {{template: {{
               metadata: {{labels: {{app: web{inject}}}}},
               spec: {{serviceAccountName: web, containers: [{{name: web, ports: [{{name: http, containerPort: 8080}}]}}]}}}}}}}}"
        );
        self.with(client, &self.service(self.address), web)
    }

    /// As it runs.
    fn running(&self) -> Mesh {
        let web = match self.sidecar {
            true => pod("git", "web-0", "10.0.0.2", "app: web"),
            false => outsider("git", "web-0", "10.0.0.2", "app: web"),
        };
        let address = if self.address.is_empty() { "10.96.0.1" } else { self.address };
        self.with(pod("git", "client", "10.0.0.1", "app: client"), &self.service(address), web)
    }

    fn with(&self, client: String, service: &str, web: String) -> Mesh {
        Mesh::of(&[vec![client, service.to_owned(), web], self.policies.clone()].concat())
    }
}

fn asked(mesh: &Mesh) -> Explanation {
    explain::explain(&mesh.snapshot().completed(), &"git/client".parse().unwrap(), "web", 80).unwrap()
}

fn strict(mode: &str) -> Vec<String> {
    vec![format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: git}}, spec: {{mtls: {{mode: {mode}}}}}}}"
    )]
}

fn rule(mode: &str) -> Vec<String> {
    vec![format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: web, namespace: git}},
           spec: {{host: web, trafficPolicy: {{tls: {{mode: {mode}}}}}}}}}"
    )]
}

/// A template is judged as its Pod will be, whatever the port carries, with and without a cluster IP, and for headless
/// Services.
#[test]
fn a_template_is_judged_as_its_pods_will_be() {
    let mut seen = std::collections::BTreeSet::new();
    for address in ["", "10.96.0.1", "None"] {
        for port in ["http", "tcp", "undeclared", "tls"] {
            for sidecar in [true, false] {
                for policies in [
                    vec![],
                    strict("STRICT"),
                    strict("DISABLE"),
                    rule("DISABLE"),
                    rule("ISTIO_MUTUAL"),
                    rule("SIMPLE"),
                ] {
                    let world = World { address, port, sidecar, policies };
                    let (written, running) = (asked(&world.written()), asked(&world.running()));
                    let place = format!("{address} {port} {sidecar} {:?}", world.policies);
                    assert_eq!(
                        written.verdict, running.verdict,
                        "{place}: {} / {}",
                        written.reason, running.reason
                    );
                    assert_eq!(written.cluster, running.cluster, "{place}");
                    let mode = |one: &Explanation| one.setting.as_ref().map(|setting| setting.mode);
                    assert_eq!(mode(&written), mode(&running), "{place}");
                    let fate = |one: &Explanation| {
                        one.endpoints
                            .iter()
                            .map(|one| (one.pair.outcome, one.pair.reason.to_string()))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(fate(&written), fate(&running), "{place}");
                    assert!(
                        written.reason.contains("no Pod of Deployment/git/web is known"),
                        "{place}: {}",
                        written.reason
                    );
                    let has_no_address = written.reason.contains("has no clusterIP here");
                    assert_eq!(has_no_address, address.is_empty(), "{place}: {}", written.reason);
                    let shown = serde_json::to_string(&written).unwrap();
                    assert!(
                        !shown.contains("\"0.0.0.1") && !shown.contains("\"0.0.0.2"),
                        "a placeholder is no address: {shown}"
                    );
                    seen.insert(written.verdict);
                }
            }
        }
    }
    let expected = [Verdict::MutualTls, Verdict::Plaintext, Verdict::Tls, Verdict::Refused];
    assert!(expected.iter().all(|verdict| seen.contains(verdict)), "{seen:?}");
}

/// A Service without a cluster IP and a template have the family that the client has.
#[test]
fn a_client_of_either_family_reaches_what_has_no_address_yet() {
    for ip in ["10.0.0.1", "fd00::1"] {
        let world = World { address: "", port: "tcp", sidecar: true, policies: vec![] };
        let client = pod("git", "client", &format!("'{ip}'"), "app: client");
        let explained = asked(&world.written_for(client));
        assert_eq!(explained.verdict, Verdict::MutualTls, "{ip}: {}", explained.reason);
    }
}

/// `tls` shows the same modes, and no address that is not known.
#[test]
fn the_settings_of_a_workload_are_those_that_it_will_have() {
    for address in ["", "None"] {
        for (port, policies) in [("http", vec![]), ("tcp", rule("SIMPLE")), ("undeclared", strict("DISABLE"))]
        {
            let world = World { address, port, sidecar: true, policies };
            let outbound = |mesh: &Mesh| {
                let key = "git/client".parse().unwrap();
                let report = report::tls_report(&mesh.snapshot().completed(), &key).unwrap();
                report.outbound.into_iter().find(|one| one.host.starts_with("web")).unwrap()
            };
            let (written, running) = (outbound(&world.written()), outbound(&world.running()));
            assert_eq!((written.mode, &written.policy), (running.mode, &running.policy), "{address} {port}");
            assert!(written.endpoints.is_none_or(|known| known.is_empty()), "{address} {port}");
        }
    }
}

/// What a change breaks is found before there is any Pod.
#[test]
fn a_diff_of_manifests_without_pods_finds_what_breaks() {
    let world = |policies| World { address: "", port: "tcp", sidecar: true, policies }.written();
    let (before, after) = (world(vec![]), world(rule("DISABLE")));
    let found = diff::diff(&before.snapshot().completed(), &after.snapshot().completed());
    assert_eq!(found.count(|change| change.host.as_str() == "web.git.svc.cluster.local"), 2, "{found:?}");
    let unknown = diff::without_endpoints(&before.snapshot().completed(), &after.snapshot().completed());
    let names: Vec<_> = unknown.iter().map(|host| host.as_str()).collect();
    assert_eq!(names, ["other.git.svc.cluster.local"], "nothing is known behind it");
}

/// What is known is left as it is, and what proxies are sent is made of that alone.
#[test]
fn completing_a_mesh_changes_nothing_that_is_known() {
    let mesh = Mesh::of(&[yard_and_rail()]);
    let completed = mesh.snapshot().completed();
    for workload in mesh.snapshot().workloads() {
        let key = workload.key();
        assert_eq!(report::tls_report(mesh.snapshot(), &key), report::tls_report(&completed, &key), "{key}");
    }
    let template = World { address: "", port: "tcp", sidecar: true, policies: vec![] }.written();
    let before = template.report("git/client");
    drop(template.snapshot().completed());
    assert_eq!(template.report("git/client"), before);
    assert!(!before.to_string().contains("\"0.0.0."), "{before}");
}

/// The names that the Pods of a StatefulSet will have are known, and no others.
#[test]
fn the_pods_of_a_stateful_set_have_their_names() {
    let set = |more: &str| {
        format!(
        "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: db, namespace: git}}, spec: {{serviceName: db, {more} template: {{
           metadata: {{labels: {{app: db, sidecar.istio.io/inject: 'true'}}}}, spec: {{containers: [{{name: db, ports: [{{containerPort: 5432}}]}}]}}}}}}}}"
    )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: git},
                    spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}}";
    for (more, known, unknown) in [
        ("", vec!["db-0"], vec!["db-1", "db", "db-x", "dbx-0"]),
        ("replicas: 3,", vec!["db-0", "db-2"], vec!["db-3"]),
        ("replicas: 2, ordinals: {start: 5},", vec!["db-5", "db-6"], vec!["db-0", "db-4", "db-7"]),
    ] {
        let mesh =
            Mesh::of(&[pod("git", "client", "10.0.0.1", "app: client"), service.to_owned(), set(more)]);
        let completed = mesh.snapshot().completed();
        let explained = |name: &str| {
            explain::explain(&completed, &"git/client".parse().unwrap(), &format!("{name}.db"), 5432)
        };
        for name in known {
            let found = explained(name).unwrap();
            assert_eq!(found.verdict, Verdict::MutualTls, "{more} {name}: {}", found.reason);
            assert_eq!(found.cluster, "outbound|5432||db.git.svc.cluster.local", "{more} {name}");
        }
        for name in unknown {
            let error = explained(name).unwrap_err();
            assert!(matches!(error, ExplainError::UnknownPod { .. }), "{more} {name}: {error}");
        }
    }
}

/// A Deployment and its like are found by the labels of their template, or by what Kubernetes gives to their Pods.
#[test]
fn the_pods_of_a_controller_are_found() {
    let hash = "pod-template-hash: 7d9f";
    let mesh = Mesh::of(&[
        pod("git", "web-7d9f-x2x4b", "10.0.0.1", hash),
        pod("git", "web-7d9f-a1b2c", "10.0.0.2", hash),
        pod("git", "web-api-5c5d-a1b2c", "10.0.0.3", "pod-template-hash: 5c5d"),
        pod("git", "db-1", "10.0.0.4", "controller-revision-hash: db-1"),
        pod("git", "db-0", "10.0.0.5", "controller-revision-hash: db-1"),
        pod("git", "node-q8w7e", "10.0.0.6", "controller-revision-hash: x, pod-template-generation: '1'"),
        pod("git", "nightly-28000-abcde", "10.0.0.7", "job-name: nightly-28000"),
        pod("git", "web-by-hand", "10.0.0.8", "app: web"),
    ]);
    for (kind, name, expected) in [
        (Kind::Deployment, "web", &["web-7d9f-a1b2c", "web-7d9f-x2x4b"][..]),
        (Kind::Deployment, "web-api", &["web-api-5c5d-a1b2c"]),
        (Kind::ReplicaSet, "web-7d9f", &["web-7d9f-a1b2c", "web-7d9f-x2x4b"]),
        (Kind::StatefulSet, "db", &["db-0", "db-1"]),
        (Kind::DaemonSet, "node", &["node-q8w7e"]),
        (Kind::Job, "nightly-28000", &["nightly-28000-abcde"]),
        (Kind::CronJob, "nightly", &["nightly-28000-abcde"]),
        (Kind::Deployment, "we", &[]),
        (Kind::StatefulSet, "web", &[]),
        (Kind::Deployment, "api", &[]),
    ] {
        let found = mesh.snapshot().workloads_of(&ObjectRef::new(kind, "git", name));
        let names: Vec<_> = found.iter().map(|one| &**one.meta.name()).collect();
        assert_eq!(names, expected, "{kind} {name}");
    }
}

/// Labels of the namespace decide, the template's own label and annotation before them, and never for Pods in the network
/// of their node.
#[test]
fn templates_get_a_sidecar_as_the_injector_would_give_it() {
    let mode = |labels: &str, template: &str, spec: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: git, labels: {{{labels}}}}}}}\n---\n\
             {{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: git}},
               spec: {{mtls: {{mode: STRICT}}}}}}\n---\n\
             {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: git}}, spec: {{template: {{
               metadata: {{{template}}}, spec: {{containers: [{{name: web}}]{spec}}}}}}}}}"
        );
        let world = Mesh::of(&[text]).snapshot().completed();
        let web = world.workloads().next().unwrap();
        eastwest_engine::compute::has_proxy(web)
    };
    let on = "istio-injection: enabled";
    for (labels, template, spec, expected) in [
        (on, "", "", true),
        ("eastwest.dev/injection: enabled", "", "", true),
        ("istio.io/rev: canary", "", "", true),
        ("istio-injection: disabled, istio.io/rev: canary", "", "", false),
        ("", "", "", false),
        ("", "labels: {sidecar.istio.io/inject: 'true'}", "", true),
        (on, "labels: {sidecar.istio.io/inject: 'false'}", "", false),
        (on, "annotations: {sidecar.istio.io/inject: 'false'}", "", false),
        (
            on,
            "labels: {sidecar.istio.io/inject: 'true'}, annotations: {sidecar.istio.io/inject: 'false'}",
            "",
            true,
        ),
        (on, "", ", hostNetwork: true", false),
        ("", "labels: {sidecar.istio.io/inject: 'true'}", ", hostNetwork: true", false),
    ] {
        assert_eq!(mode(labels, template, spec), expected, "{labels} {template} {spec}");
    }
}
