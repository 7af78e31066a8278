//! What a change may have touched. A dirty set may name too much, never too little.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{Host, Name, Workload, WorkloadKey};

use super::ClientScope;

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
    /// Hosts that are set for every client as before, while their servers may take calls in another way.
    servers: Hosts,
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
            && self.servers.is_empty()
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
    pub fn outbound_hosts_of(&self, scope: &ClientScope) -> &Hosts {
        if self.client_namespaces.contains(scope.namespace()) { &Hosts::All } else { &self.hosts }
    }

    /// The hosts of which the clients of one scope may be warned of something else than before.
    pub fn warned_hosts_of(&self, scope: &ClientScope) -> Hosts {
        let mut hosts = self.outbound_hosts_of(scope).clone();
        hosts.merge(self.servers.clone());
        hosts
    }

    /// Those of some workloads whose inbound settings may differ. The cost follows what is dirty, not `workloads`.
    pub fn inbound_among<'a, T>(&self, workloads: &'a BTreeMap<WorkloadKey, T>) -> Vec<&'a T> {
        among(&self.inbound_namespaces, &self.inbound_workloads, workloads)
    }

    /// Those of some workloads that may have moved to another [`ClientScope`]. The cost follows what is dirty, not
    /// `workloads`.
    pub fn clients_among<'a, T>(&self, workloads: &'a BTreeMap<WorkloadKey, T>) -> Vec<&'a T> {
        among(&self.client_namespaces, &self.clients, workloads)
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
        self.servers.merge(other.servers);
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

    /// Clients see no difference: of the hosts only the servers' side may differ.
    pub(super) fn spare_clients(&mut self) {
        let hosts = std::mem::take(&mut self.hosts);
        self.servers.merge(hosts);
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

/// The entries of these namespaces, and of these single workloads in other namespaces.
fn among<'a, T>(
    namespaces: &Namespaces,
    single: &BTreeSet<WorkloadKey>,
    workloads: &'a BTreeMap<WorkloadKey, T>,
) -> Vec<&'a T> {
    let Namespaces::Some(names) = namespaces else { return workloads.values().collect() };
    let whole = names.iter().flat_map(|namespace| {
        let first = WorkloadKey { namespace: namespace.clone(), name: Name::default() };
        workloads.range(first..).take_while(move |(key, _)| key.namespace == *namespace).map(|(_, one)| one)
    });
    let single = single.iter().filter(|key| !names.contains(&key.namespace));
    whole.chain(single.filter_map(|key| workloads.get(key))).collect()
}

impl Extend<DirtySet> for DirtySet {
    fn extend<I: IntoIterator<Item = DirtySet>>(&mut self, others: I) {
        others.into_iter().for_each(|other| self.merge(other));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eastwest_model::{
        Change, Kind, Labels, MeshConfig, Meta, Object, ObjectRef, Selector, TrustDomain, Workload,
        WorkloadKey,
        policy::PeerAuthentication,
        service::{EndpointSlice, ExportTo, Service},
    };

    use super::*;
    use crate::Index;

    fn meta(kind: Kind, namespace: &str, name: &str, labels: &[(&str, &str)]) -> Meta {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Meta { labels: Arc::new(labels), ..Meta::new(ObjectRef::new(kind, namespace, name)) }
    }

    fn service(name: &str) -> Object {
        Object::Service(Arc::new(Service {
            families: Vec::new(),
            publish_not_ready: false,
            meta: meta(Kind::Service, "shop", name, &[]),
            cluster_ips: Vec::new(),
            headless: false,
            external_name: None,
            ports: Vec::new(),
            selector: Some(selector(name)),
            export_to: ExportTo::Default,
        }))
    }

    fn selector(app: &str) -> Selector {
        Selector([("app".into(), app.into())].into())
    }

    fn pod(name: &str, app: &str) -> Object {
        Object::Workload(Arc::new(Workload::new(meta(Kind::Pod, "shop", name, &[("app", app)]))))
    }

    fn slice(service: &str) -> Object {
        Object::EndpointSlice(Arc::new(EndpointSlice {
            meta: meta(Kind::EndpointSlice, "shop", service, &[]),
            service: service.into(),
            endpoints: Vec::new(),
            ports: std::collections::BTreeMap::new(),
        }))
    }

    fn shop() -> Index {
        let mut index = Index::new(MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "root"));
        for object in [service("a"), service("b"), pod("a-0", "a"), pod("b-0", "b")] {
            index.apply(Change::Upsert(object));
        }
        index
    }

    fn host(service: &str) -> Hosts {
        Hosts::Some([Host::of_service(service, "shop", "cluster.local")].into())
    }

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey { namespace: "shop".into(), name: name.into() }
    }

    #[test]
    fn an_endpoint_touches_its_own_host_alone() {
        let dirty = shop().apply(Change::Upsert(slice("a")));
        assert_eq!(dirty.outbound_hosts(), host("a"));
        assert!(!dirty.inbound_of(&key("a-0")) && !dirty.scopes_changed());
    }

    #[test]
    fn a_pod_touches_itself_and_the_services_that_select_it() {
        let dirty = shop().apply(Change::Delete(ObjectRef::new(Kind::Pod, "shop", "a-0")));
        assert_eq!(dirty.outbound_hosts(), host("a"));
        assert!(dirty.inbound_of(&key("a-0")) && dirty.scope_of(&key("a-0")));
        assert!(!dirty.inbound_of(&key("b-0")) && !dirty.scope_of(&key("b-0")));
    }

    #[test]
    fn the_node_of_a_pod_touches_nothing_and_is_known() {
        let mut index = shop();
        let Object::Workload(pod) = pod("a-0", "a") else { unreachable!() };
        let placed = Workload { uid: Some("1".into()), node: Some("n".into()), ..(*pod).clone() };
        assert!(index.apply(Change::Upsert(Object::Workload(Arc::new(placed)))).is_empty());
        let known = index.freeze().pod(&key("a-0")).cloned().unwrap();
        assert_eq!((known.uid.as_deref(), known.node.as_deref()), (Some("1"), Some("n")));
    }

    #[test]
    fn a_workload_policy_touches_the_workloads_that_it_selects() {
        let policy = PeerAuthentication {
            meta: meta(Kind::PeerAuthentication, "shop", "a", &[]),
            selector: selector("a"),
            mode: None,
            ports: std::collections::BTreeMap::new(),
        };
        let dirty = shop().apply(Change::Upsert(Object::PeerAuthentication(Arc::new(policy))));
        assert!(dirty.inbound_of(&key("a-0")) && !dirty.inbound_of(&key("b-0")));
        assert!(!dirty.scopes_changed() && !dirty.mesh_changed());
    }

    /// PERMISSIVE and STRICT take mutual TLS both; DISABLE and the absence of a policy are something else for clients.
    #[test]
    fn a_mode_that_clients_do_not_see_touches_the_servers_alone() {
        use eastwest_model::policy::MutualTlsMode::{Disable, Permissive, Strict};
        let policy = |namespace: &str, mode, port| PeerAuthentication {
            meta: meta(Kind::PeerAuthentication, namespace, "default", &[]),
            selector: Selector::default(),
            mode,
            ports: [(80, port)].into(),
        };
        for namespace in ["root", "shop"] {
            let mut index = shop();
            let mut set = |mode, port| {
                let policy = policy(namespace, mode, port);
                let dirty = index.apply(Change::Upsert(Object::PeerAuthentication(Arc::new(policy))));
                assert!(dirty.inbound_of(&key("a-0")) && !dirty.is_empty());
                dirty.outbound_hosts().is_empty()
            };
            let unseen = [
                set(Some(Permissive), None),
                set(Some(Strict), None),
                set(Some(Strict), Some(Strict)),
                set(Some(Strict), Some(Permissive)),
                set(Some(Strict), Some(Disable)),
                set(Some(Permissive), Some(Disable)),
                set(Some(Permissive), None),
                set(None, None),
                set(Some(Disable), None),
                set(Some(Permissive), None),
            ];
            let expected = [false, true, false, true, false, false, false, false, false, false];
            assert_eq!(unseen, expected, "{namespace}");
        }
    }

    #[test]
    fn what_is_known_already_touches_nothing() {
        let mut index = shop();
        assert!(index.apply(Change::Upsert(service("a"))).is_empty());
        assert!(index.apply(Change::Delete(ObjectRef::new(Kind::Pod, "shop", "nobody"))).is_empty());
    }
}
