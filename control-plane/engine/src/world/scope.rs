//! What distinguishes one client's view of the mesh from another's.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{
    Families, Host, Name, ObjectRef, Workload,
    mesh::OutboundTrafficPolicy,
    service::{EgressListener, Sidecar},
    workload::ProxyCertificate,
};

use super::Snapshot;

/// Clients of one scope have the same outbound settings: same namespace, same Sidecar, selected by the same
/// DestinationRules (POLICY.md D6), with the same certificate of their own, if they have one (O9), and with addresses of
/// the same families (L9). There are far fewer scopes than clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientScope {
    namespace: Name,
    sidecar: Option<ObjectRef>,
    /// Names of the rules with a workloadSelector, in the same namespace, that select the client.
    rules: BTreeSet<Name>,
    /// The certificate that the clients' proxies bring along (O9).
    certificate: Option<ProxyCertificate>,
    /// The families of the clients' addresses, `None` where no address is known.
    families: Option<Families>,
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
            certificate: workload.client_certificate.clone(),
            families: Families::of(&workload.addresses),
        }
    }

    /// The scope of a client in a namespace of which nothing else is known.
    pub(crate) fn of_stranger(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            sidecar: None,
            rules: BTreeSet::new(),
            certificate: None,
            families: None,
        }
    }

    /// The scope of a client whose proxy has a certificate by its own metadata.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<&ProxyCertificate>) -> Self {
        Self { certificate: certificate.cloned().or(self.certificate), ..self }
    }

    /// The scope of a client whose proxy has addresses of these families, by its own metadata.
    #[must_use]
    pub fn with_families(self, families: Option<Families>) -> Self {
        let families = [self.families, families].into_iter().flatten().reduce(Families::and);
        Self { families, ..self }
    }

    /// The families of the clients' addresses.
    pub(crate) fn families(&self) -> Families {
        self.families.unwrap_or_default()
    }

    /// The certificate that the clients' proxies bring along.
    pub(crate) fn certificate(&self) -> Option<&ProxyCertificate> {
        self.certificate.as_ref()
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
        let listeners = self.sidecar_in(snapshot).map(|one| &one.egress[..]).filter(|all| !all.is_empty());
        Egress { namespace: &self.namespace, listeners }
    }

    /// What happens to hosts that no service knows: the Sidecar's word, else the mesh's.
    pub(crate) fn unknown_hosts(&self, snapshot: &Snapshot) -> OutboundTrafficPolicy {
        let own = self.sidecar_in(snapshot).and_then(|one| one.outbound_traffic_policy);
        own.unwrap_or(snapshot.mesh.outbound_traffic_policy)
    }

    fn sidecar_in<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<Sidecar>> {
        let sidecar = self.sidecar.as_ref()?;
        snapshot.namespace(&sidecar.namespace).sidecars.get(sidecar.kind, &sidecar.name)
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

/// The `egress` of a Sidecar as one client namespace reads it (POLICY.md A8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress<'a> {
    namespace: &'a Name,
    /// `None` = everything visible.
    listeners: Option<&'a [EgressListener]>,
}

/// The ports of a host that are imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Imported {
    All,
    /// These, if the host has them.
    Ports(BTreeSet<u16>),
}

impl Imported {
    /// Whether a port is among them.
    pub(crate) fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Ports(ports) => ports.contains(&port),
        }
    }
}

impl Egress<'_> {
    /// What is imported of a host from a namespace: by a listener without a port all of it, else the ports of the
    /// listeners that name it.
    pub(crate) fn imported(&self, from: &str, host: &Host) -> Imported {
        let Some(listeners) = self.listeners else { return Imported::All };
        let mut ports = BTreeSet::new();
        for listener in listeners.iter().filter(|listener| self.names(&listener.hosts, from, host)) {
            match listener.port {
                Some(port) => ports.insert(port),
                None => return Imported::All,
            };
        }
        Imported::Ports(ports)
    }

    /// `ns/host` imports, `~ns/host` takes out again; `*` is any namespace, `.` the client's own, and `~` alone any
    /// namespace too.
    fn names(&self, entries: &[(Name, Host)], from: &str, host: &Host) -> bool {
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
