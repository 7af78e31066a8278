//! The objects of the mesh by namespace: one writer ([`Index`]), many readers ([`Snapshot`]).
//!
//! Maps are shared between the index and its snapshots and copied when they are written to
//! ([`std::sync::Arc::make_mut`]). Freezing costs the number of namespaces. A change costs, once after each freeze, a
//! shallow copy of the maps of its own kind in its own namespace. Only a Service or ServiceEntry that comes, goes or
//! changes its hosts copies something that is as large as the mesh: the map from hosts to owners.

mod controllers;
mod dirty;
mod index;
mod kinds;
mod objects;
mod placeholders;
mod reserved;
mod rules;
mod scope;
mod selecting;
mod slices;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use eastwest_model::{Host, Kind, MeshConfig, Name, ObjectRef, Workload, WorkloadKey, service::Service};

pub use dirty::{DirtySet, Hosts};
pub use index::Index;
pub use scope::ClientScope;

pub(crate) use kinds::Namespace;
pub(crate) use placeholders::is_placeholder;
pub(crate) use rules::Rules;
pub(crate) use scope::{Imported, sidecar_of};

/// Longest chain of ExternalName aliases that is followed.
const MAX_ALIASES: usize = 16;

/// How much of each sort a mesh has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Services and ServiceEntries.
    pub services: usize,
    /// Pods, WorkloadEntries and templates of Pods.
    pub workloads: usize,
    /// Those of them that are templates.
    pub templates: usize,
    /// Services that have no cluster IP, as in manifests that no cluster has seen.
    pub without_cluster_ip: usize,
    /// PeerAuthentications, DestinationRules and Sidecars.
    pub policies: usize,
}

/// An immutable state of the mesh: everything that settings are computed from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) mesh: Arc<MeshConfig>,
    pub(crate) namespaces: BTreeMap<Name, Arc<Namespace>>,
    /// Every Service and ServiceEntry that claims a host; ExternalName Services claim none (POLICY.md O1).
    pub(crate) hosts: Arc<BTreeMap<Host, BTreeSet<ObjectRef>>>,
    /// The Services that have a cluster IP (POLICY.md D12).
    pub(crate) cluster_ips: Arc<BTreeMap<IpAddr, BTreeSet<ObjectRef>>>,
    /// The ServiceEntries that claim addresses (POLICY.md D12).
    pub(crate) addressed: Arc<BTreeSet<ObjectRef>>,
    /// ExternalName Services by their direct target.
    pub(crate) aliases: Arc<BTreeMap<Host, BTreeSet<ObjectRef>>>,
    /// The namespaces whose labels ask for sidecars. This decides about templates of which there is no Pod.
    pub(crate) injecting: Arc<BTreeSet<Name>>,
    empty: Arc<Namespace>,
}

impl Snapshot {
    fn new(mesh: MeshConfig) -> Self {
        Self {
            mesh: Arc::new(mesh),
            namespaces: BTreeMap::new(),
            hosts: Arc::default(),
            cluster_ips: Arc::default(),
            addressed: Arc::default(),
            aliases: Arc::default(),
            injecting: Arc::default(),
            empty: Arc::default(),
        }
    }

    /// The mesh's settings.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// A workload by namespace and name; of a Pod and a WorkloadEntry of the same name, the Pod.
    pub fn workload(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        self.namespaces.get(&key.namespace)?.workloads.get(&key.name)
    }

    /// Every workload, sorted by namespace, then Pods before WorkloadEntries, then by name.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.namespaces.values().flat_map(|namespace| namespace.workloads.values())
    }

    /// The Pod of that name.
    pub fn pod(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        self.namespaces.get(&key.namespace)?.workloads.pod(&key.name)
    }

    /// The Pods of a service account.
    pub fn pods_of(&self, namespace: &str, service_account: &str) -> impl Iterator<Item = &Arc<Workload>> {
        let workloads = self.namespaces.get(namespace).into_iter().flat_map(|space| space.workloads.values());
        workloads.filter(move |one| {
            one.meta.object.kind == Kind::Pod && one.service_account.as_deref() == Some(service_account)
        })
    }

    /// The workload at an address, in one namespace or in any (then the first namespace that has one).
    pub fn workload_by_address(&self, namespace: Option<&str>, address: IpAddr) -> Option<&Arc<Workload>> {
        match namespace {
            Some(name) => self.namespaces.get(name)?.workloads.at_address(address).next(),
            None => self.namespaces.values().find_map(|one| one.workloads.at_address(address).next()),
        }
    }

    /// The workloads at an address, sorted by namespace and name: several Pods may be in the network of their node.
    pub fn workloads_at(&self, address: IpAddr) -> Vec<&Arc<Workload>> {
        self.namespaces.values().flat_map(|one| one.workloads.at_address(address)).collect()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let templates = self.workloads().filter(|one| one.meta.object.kind.has_template()).count();
        let (workloads, spaces) = (self.workloads().count(), self.namespaces.values());
        let mut counts = Counts { workloads, templates, services: 0, without_cluster_ip: 0, policies: 0 };
        for space in spaces {
            counts.services += space.services.values().count() + space.service_entries.values().count();
            counts.without_cluster_ip += space.services.values().filter(|one| one.lacks_cluster_ip()).count();
            counts.policies += space.peer_authentications.values().count()
                + space.authorization_policies.values().count()
                + space.request_authentications.values().count()
                + space.destination_rules.values().count()
                + space.sidecars.values().count();
        }
        counts
    }

    /// Every host that a Service or ServiceEntry claims, sorted.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.keys()
    }

    pub(crate) fn namespace(&self, name: &str) -> &Namespace {
        self.namespaces.get(name).unwrap_or(&self.empty)
    }

    /// The host of a Kubernetes Service.
    pub(crate) fn host_of(&self, service: &ObjectRef) -> Host {
        Host::of_service(&service.name, &service.namespace, &self.mesh.cluster_domain)
    }

    /// The hosts that the namespace's Services and ServiceEntries claim.
    pub(crate) fn hosts_of_namespace(&self, namespace: &str) -> BTreeSet<Host> {
        let objects = self.namespace(namespace);
        let services = objects.services.values().map(|service| self.host_of(&service.meta.object));
        services
            .chain(objects.service_entries.values().flat_map(|entry| entry.hosts.iter().cloned()))
            .collect()
    }

    /// The hosts that an alias leads through, the final one last (POLICY.md O1).
    pub(crate) fn alias_chain(&self, alias: &Service) -> Vec<Host> {
        let mut chain: Vec<Host> = Vec::new();
        let mut next = alias.external_name.clone();
        while let Some(host) = next.filter(|host| chain.len() < MAX_ALIASES && !chain.contains(host)) {
            next = self.service_of(&host).and_then(|service| service.external_name.clone());
            chain.push(host);
        }
        chain
    }

    /// The ExternalName Services whose chain ends at `host`.
    pub(crate) fn aliases_of(&self, host: &Host) -> BTreeSet<ObjectRef> {
        let mut found = BTreeSet::new();
        let mut open = vec![host.clone()];
        while let Some(target) = open.pop() {
            for alias in self.aliases.get(&target).into_iter().flatten() {
                if found.insert(alias.clone()) {
                    open.push(self.host_of(alias));
                }
            }
        }
        found
    }

    /// The Kubernetes Service whose host this is.
    pub(crate) fn service_of(&self, host: &Host) -> Option<&Arc<Service>> {
        let local = host.as_str().strip_suffix(&*self.mesh.cluster_domain)?.strip_suffix(".svc.")?;
        let (name, namespace) = local.split_once('.')?;
        self.namespaces.get(namespace)?.services.get(name)
    }
}
