//! What distinguishes one client's view of the mesh from another's.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Host, Name, ObjectRef, Workload, service::Sidecar};

use super::Snapshot;

/// Clients of one scope have the same outbound settings: same namespace, same Sidecar, and selected by the same
/// DestinationRules (tls-policy.md D6). There are far fewer scopes than clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientScope {
    namespace: Name,
    sidecar: Option<ObjectRef>,
    /// Names of the rules with a workloadSelector, in the same namespace, that select the client.
    rules: BTreeSet<Name>,
}

impl ClientScope {
    /// The scope that a workload belongs to.
    pub fn of(snapshot: &Snapshot, workload: &Workload) -> Self {
        let namespace = workload.meta.namespace();
        let rules = snapshot.namespace(namespace).destination_rules.values();
        let selected = rules.filter(|rule| {
            rule.workload_selector.as_ref().is_some_and(|one| one.matches(&workload.meta.labels))
        });
        Self {
            namespace: namespace.clone(),
            sidecar: sidecar_of(snapshot, workload).map(|sidecar| sidecar.meta.object.clone()),
            rules: selected.map(|rule| rule.meta.name().clone()).collect(),
        }
    }

    /// The clients' namespace.
    pub fn namespace(&self) -> &Name {
        &self.namespace
    }

    /// The Sidecar that limits what the clients import.
    pub fn sidecar(&self) -> Option<&ObjectRef> {
        self.sidecar.as_ref()
    }

    /// Whether a rule with a workloadSelector selects the clients; it never leaves its namespace (D6).
    pub(crate) fn is_selected_by(&self, rule: &ObjectRef) -> bool {
        rule.namespace == self.namespace && self.rules.contains(&rule.name)
    }

    /// What the clients may import.
    pub(crate) fn egress<'a>(&'a self, snapshot: &'a Snapshot) -> Egress<'a> {
        let sidecar = self.sidecar.as_ref();
        let sidecar = sidecar.and_then(|one| snapshot.namespace(&one.namespace).sidecars.get(&one.name));
        let hosts = sidecar.and_then(|one| one.egress_hosts.as_deref()).filter(|hosts| !hosts.is_empty());
        Egress { namespace: &self.namespace, hosts }
    }
}

/// The Sidecar of a workload: the oldest one with a matching selector, else the oldest one without, both of its own
/// namespace, else the oldest one without selector in the root namespace.
pub(crate) fn sidecar_of<'a>(snapshot: &'a Snapshot, workload: &Workload) -> Option<&'a Arc<Sidecar>> {
    let oldest = |namespace: &str, wanted: &dyn Fn(&Sidecar) -> bool| {
        let sidecars = snapshot.namespace(namespace).sidecars.values();
        sidecars.filter(|one| wanted(one)).min_by_key(|one| one.meta.age_key())
    };
    let namespace = workload.meta.namespace();
    let selects = |one: &Sidecar| one.selector.as_ref().is_some_and(|it| it.matches(&workload.meta.labels));
    let general = |one: &Sidecar| one.selector.is_none();
    oldest(namespace, &selects)
        .or_else(|| oldest(namespace, &general))
        .or_else(|| oldest(&snapshot.mesh.root_namespace, &general))
}

/// The `egress` hosts of a Sidecar as one client namespace reads them (tls-policy.md A8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress<'a> {
    namespace: &'a Name,
    /// `None` = everything visible.
    hosts: Option<&'a [(Name, Host)]>,
}

impl Egress<'_> {
    /// Whether a host is imported from a namespace. `ns/host` imports, `~ns/host` takes out again; `*` is any
    /// namespace, `.` the client's own, and `~` alone any namespace too.
    pub(crate) fn imports(&self, from: &str, host: &Host) -> bool {
        let Some(entries) = self.hosts else { return true };
        let concerns = |namespace: &str| match namespace {
            "*" => true,
            "." => &**self.namespace == from,
            name => name == from,
        };
        let excluded = entries.iter().any(|(namespace, pattern)| match namespace.strip_prefix('~') {
            Some("") => pattern.covers(host),
            Some(rest) => concerns(rest) && pattern.covers(host),
            None => false,
        });
        !excluded && entries.iter().any(|(namespace, pattern)| concerns(namespace) && pattern.covers(host))
    }
}
