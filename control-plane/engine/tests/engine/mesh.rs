//! Small meshes out of manifests, for tests that ask one question each.

use std::sync::Arc;

use eastwest_engine::{
    Index, Snapshot,
    diff::{self, Diff},
    explain::{self, ExplainError, Explanation},
    lint, report,
};
use eastwest_manifest::parse;
use eastwest_model::{Change, Diagnostic, Effect, MeshConfig, Severity, TrustDomain};
use serde_json::Value;

/// A mesh; every part is YAML and the parts add up.
pub(crate) struct Mesh(Arc<Snapshot>);

impl Mesh {
    /// The mesh of the parts; none of them may be refused.
    pub(crate) fn of(parts: &[String]) -> Self {
        Self::grown(parts, &[]).0
    }

    /// Every workload, as NAMESPACE/NAME.
    pub(crate) fn workloads(&self) -> Vec<String> {
        self.0.workloads().map(|workload| workload.key().to_string()).collect()
    }

    /// The mesh of the parts before and after it got more of them, out of one index.
    pub(crate) fn grown(parts: &[String], more: &[String]) -> (Self, Self) {
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        Self::grown_with(&defaults, parts, more)
    }

    /// The mesh of the parts with other settings.
    pub(crate) fn with(defaults: &MeshConfig, parts: &[String]) -> Self {
        Self::grown_with(defaults, parts, &[]).0
    }

    fn grown_with(defaults: &MeshConfig, parts: &[String], more: &[String]) -> (Self, Self) {
        let mut index = Index::new(defaults.clone());
        let mut add = |parts: &[String]| {
            let parsed = parse::documents(&parts.join("\n---\n"), "mesh.yaml", defaults);
            let errors: Vec<_> =
                parsed.diagnostics.iter().filter(|one| one.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{errors:?}");
            for object in parsed.objects {
                index.apply(Change::Upsert(object));
            }
            Self(index.freeze())
        };
        (add(parts), add(more))
    }

    /// The frozen world.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.0
    }

    /// The report of a workload as JSON.
    pub(crate) fn report(&self, workload: &str) -> Value {
        serde_json::to_value(report::tls_report(&self.0, &workload.parse().unwrap()).unwrap()).unwrap()
    }

    /// How a client calls a host: one entry of its report, `null` if there is none.
    pub(crate) fn call(&self, client: &str, host: &str, port: u16, subset: Option<&str>) -> Value {
        let report = self.report(client);
        let wanted = |entry: &&Value| {
            entry["host"] == host && entry["port"] == port && entry["subset"].as_str() == subset
        };
        report["outbound"].as_array().unwrap().iter().find(wanted).cloned().unwrap_or(Value::Null)
    }

    /// The mode in which `yard/client` calls `depot.rail`, and who decided.
    pub(crate) fn depot(&self) -> (String, String) {
        let entry = self.call("yard/client", DEPOT, 80, None);
        (text(&entry["mode"]), text(&entry["policy"]))
    }

    pub(crate) fn explain(&self, client: &str, host: &str, port: u16) -> Result<Explanation, ExplainError> {
        explain::explain(&self.0, &client.parse().unwrap(), host, port)
    }

    /// What changes when this mesh becomes another one.
    pub(crate) fn diff(&self, after: &Self) -> Diff {
        diff::diff(&self.0, &after.0)
    }

    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        lint::diagnostics(&self.0)
    }

    /// What the findings say about the effect of one whole object, each with its winner.
    pub(crate) fn effects(&self, object: &str) -> Vec<(Effect, String)> {
        let found = self.diagnostics().into_iter().filter(|one| one.object == object);
        let winner = |one: &Diagnostic| one.beaten_by.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut effects: Vec<_> = found.filter_map(|one| Some((one.effect?, winner(&one)))).collect();
        effects.dedup();
        effects
    }

    /// The messages about one object.
    pub(crate) fn findings(&self, object: &str) -> Vec<String> {
        let found = self.diagnostics().into_iter().filter(|one| one.object == object);
        found.map(|one| one.message).collect()
    }
}

pub(crate) const DEPOT: &str = "depot.rail.svc.cluster.local";

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or("null").to_owned()
}

/// The client `yard/client` and the Service `rail/depot` (80 to 8080, TCP 9000 to 9001) with the Pod `rail/depot-0`.
pub(crate) fn yard_and_rail() -> String {
    [
        pod("yard", "client", "10.0.1.1", "app: client"),
        service("rail", "depot", "clusterIP: 10.96.0.1"),
        pod("rail", "depot-0", "10.0.2.1", "app: depot, version: v1"),
    ]
    .join("\n---\n")
}

/// A Pod in the mesh: service account and container are named like the Pod up to the first dash.
pub(crate) fn pod(namespace: &str, name: &str, ip: &str, labels: &str) -> String {
    outsider(namespace, name, ip, &format!("security.istio.io/tlsMode: istio, {labels}"))
}

/// A Pod with these labels alone.
pub(crate) fn outsider(namespace: &str, name: &str, ip: &str, labels: &str) -> String {
    let account = name.split('-').next().unwrap();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}},
           spec: {{serviceAccountName: {account}, containers: [{{name: app, image: app, ports: [{{name: http, containerPort: 8080}}]}}]}},
           status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}}}"
    )
}

/// A Service of the fifth day that selects `app: NAME`; without slices, so that the Pods are its endpoints.
pub(crate) fn service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2025-01-05T00:00:00Z'}},
           spec: {{selector: {{app: {name}}}, {spec},
                   ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp-b, port: 9000, targetPort: 9001}}]}}}}"
    )
}

/// An object of Istio's networking group; `age` counts days of January 2025.
pub(crate) fn networking(kind: &str, namespace: &str, name: &str, age: u8, spec: &str) -> String {
    istio("networking.istio.io/v1", kind, namespace, name, age, spec)
}

/// A DestinationRule.
pub(crate) fn rule(namespace: &str, name: &str, age: u8, spec: &str) -> String {
    networking("DestinationRule", namespace, name, age, spec)
}

/// A PeerAuthentication.
pub(crate) fn policy(namespace: &str, name: &str, age: u8, spec: &str) -> String {
    istio("security.istio.io/v1", "PeerAuthentication", namespace, name, age, spec)
}

fn istio(version: &str, kind: &str, namespace: &str, name: &str, age: u8, spec: &str) -> String {
    format!(
        "{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2025-01-{age:02}T00:00:00Z'}}, spec: {{{spec}}}}}"
    )
}

/// The mesh's ConfigMap.
pub(crate) fn mesh_config(yaml: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{yaml}'}}}}"
    )
}
