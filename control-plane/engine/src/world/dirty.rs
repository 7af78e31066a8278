//! What a change may have touched. A dirty set may name too much, never too little.

use std::collections::BTreeSet;

use eastwest_model::{Host, Name, Workload, WorkloadKey};

use crate::ClientScope;

/// A set of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Every one.
    All,
    /// These.
    Some(BTreeSet<Host>),
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Hosts {
    /// Whether a host is in the set.
    pub fn contains(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Some(hosts) => hosts.contains(host),
        }
    }

    /// No host.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(hosts) if hosts.is_empty())
    }

    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Some(mine), Self::Some(theirs)) => mine.extend(theirs),
            _ => *self = Self::All,
        }
    }
}

/// Namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Namespaces {
    All,
    Some(BTreeSet<Name>),
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Namespaces {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(name),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Some(names) if names.is_empty())
    }

    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Some(mine), Self::Some(theirs)) => mine.extend(theirs),
            _ => *self = Self::All,
        }
    }
}

/// The settings that may differ after one or more changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirtySet {
    inbound_namespaces: Namespaces,
    inbound_workloads: BTreeSet<WorkloadKey>,
    /// Hosts that every client must look at again.
    hosts: Hosts,
    /// Namespaces whose clients must look at every host again and ask for their scope again.
    client_namespaces: Namespaces,
    /// Workloads that must ask for their scope again.
    clients: BTreeSet<WorkloadKey>,
    mesh: bool,
}

impl DirtySet {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.inbound_namespaces.is_empty()
            && self.inbound_workloads.is_empty()
            && self.hosts.is_empty()
            && self.client_namespaces.is_empty()
            && self.clients.is_empty()
            && !self.mesh
    }

    /// Whether the workload's inbound settings may differ.
    pub fn inbound_of(&self, workload: &WorkloadKey) -> bool {
        self.inbound_namespaces.contains(&workload.namespace) || self.inbound_workloads.contains(workload)
    }

    /// The hosts whose outbound settings may differ for some client.
    pub fn outbound_hosts(&self) -> Hosts {
        if self.client_namespaces.is_empty() { self.hosts.clone() } else { Hosts::All }
    }

    /// The hosts whose outbound settings may differ for the clients of one scope.
    pub fn outbound_hosts_of(&self, scope: &ClientScope) -> Hosts {
        if self.client_namespaces.contains(scope.namespace()) { Hosts::All } else { self.hosts.clone() }
    }

    /// Whether some workload may have moved to another [`ClientScope`].
    pub fn scopes_changed(&self) -> bool {
        !self.client_namespaces.is_empty() || !self.clients.is_empty()
    }

    /// Whether this workload may have moved to another [`ClientScope`].
    pub fn scope_of(&self, workload: &WorkloadKey) -> bool {
        self.client_namespaces.contains(&workload.namespace) || self.clients.contains(workload)
    }

    /// Whether the settings of the mesh changed.
    pub fn mesh_changed(&self) -> bool {
        self.mesh
    }

    /// Adds what another change touched.
    pub fn merge(&mut self, other: Self) {
        self.inbound_namespaces.merge(other.inbound_namespaces);
        self.inbound_workloads.extend(other.inbound_workloads);
        self.hosts.merge(other.hosts);
        self.client_namespaces.merge(other.client_namespaces);
        self.clients.extend(other.clients);
        self.mesh |= other.mesh;
    }

    pub(super) fn everything() -> Self {
        Self {
            inbound_namespaces: Namespaces::All,
            hosts: Hosts::All,
            client_namespaces: Namespaces::All,
            mesh: true,
            ..Self::default()
        }
    }

    pub(super) fn add_host(&mut self, host: Host) {
        self.add_hosts([host]);
    }

    pub(super) fn add_hosts(&mut self, hosts: impl IntoIterator<Item = Host>) {
        if let Hosts::Some(mine) = &mut self.hosts {
            mine.extend(hosts);
        }
    }

    pub(super) fn add_all_hosts(&mut self) {
        self.hosts = Hosts::All;
    }

    pub(super) fn add_inbound(&mut self, workload: &Workload) {
        self.inbound_workloads.insert(workload.key());
    }

    pub(super) fn add_inbound_namespace(&mut self, namespace: &Name) {
        self.inbound_namespaces.merge(Namespaces::Some([namespace.clone()].into()));
    }

    pub(super) fn add_inbound_everywhere(&mut self) {
        self.inbound_namespaces = Namespaces::All;
    }

    pub(super) fn add_client(&mut self, workload: &Workload) {
        self.clients.insert(workload.key());
    }

    pub(super) fn add_clients_of(&mut self, namespace: &Name) {
        self.client_namespaces.merge(Namespaces::Some([namespace.clone()].into()));
    }

    pub(super) fn add_clients_everywhere(&mut self) {
        self.client_namespaces = Namespaces::All;
    }
}

impl Extend<DirtySet> for DirtySet {
    fn extend<I: IntoIterator<Item = DirtySet>>(&mut self, others: I) {
        others.into_iter().for_each(|other| self.merge(other));
    }
}
