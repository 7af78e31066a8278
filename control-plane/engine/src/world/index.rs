//! The mutable world: one writer applies changes and hands out snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{Change, Host, Kind, MeshConfig, Meta, Name, Object, ObjectRef};

use super::{DirtySet, Namespace, Snapshot, affected::affected};

/// Label that binds an object to one revision of the control plane (POLICY.md P10).
const REVISION_LABEL: &str = "istio.io/rev";
/// The revision that we are; objects without the label belong to every revision.
const REVISION: &str = "default";

/// The mutable world.
#[derive(Debug)]
pub struct Index {
    world: Snapshot,
    defaults: MeshConfig,
    /// The object that the mesh's settings come from, if not from the defaults.
    mesh_source: Option<Arc<Meta>>,
}

impl Index {
    /// An empty world; a MeshConfig object that is applied later wins over `defaults`.
    pub fn new(defaults: MeshConfig) -> Self {
        Self { world: Snapshot::new(defaults.clone()), defaults, mesh_source: None }
    }

    /// The present world, shared: nothing is copied but one pointer for each namespace.
    pub fn freeze(&self) -> Arc<Snapshot> {
        Arc::new(self.world.clone())
    }

    /// Takes a change in and says what it may have touched.
    pub fn apply(&mut self, change: Change) -> DirtySet {
        match change {
            Change::Upsert(object) if is_ours(&object) => {
                self.replace(&object.reference().clone(), Some(object))
            }
            Change::Upsert(object) => self.replace(object.reference(), None),
            Change::Delete(reference) => self.replace(&reference, None),
        }
    }

    fn replace(&mut self, reference: &ObjectRef, object: Option<Object>) -> DirtySet {
        let old = self.get(reference);
        if old == object {
            return DirtySet::default();
        }
        // A Pod that was given to a node: nothing is computed from that.
        let alike = matches!((&old, &object), (Some(Object::Workload(old)), Some(Object::Workload(new))) if old.is_alike(new));
        let mut dirty = DirtySet::default();
        if let Some(old) = &old {
            if !alike {
                dirty.merge(affected(&self.world, old));
            }
            self.remove(old);
        }
        if let Some(new) = &object {
            self.insert(new.clone());
            if !alike {
                dirty.merge(affected(&self.world, new));
            }
        }
        dirty
    }

    fn get(&self, reference: &ObjectRef) -> Option<Object> {
        let ObjectRef { kind, namespace, name } = reference;
        let space = self.world.namespaces.get(namespace);
        match kind {
            Kind::Service => space?.services.get(name).cloned().map(Object::Service),
            Kind::EndpointSlice => space?.slices.get(name).cloned().map(Object::EndpointSlice),
            Kind::Pod | Kind::WorkloadEntry => {
                space?.workloads.of_kind(*kind, name).cloned().map(Object::Workload)
            }
            Kind::ServiceEntry => space?.service_entries.get(name).cloned().map(Object::ServiceEntry),
            Kind::Sidecar => space?.sidecars.get(name).cloned().map(Object::Sidecar),
            Kind::PeerAuthentication => {
                space?.peer_authentications.get(name).cloned().map(Object::PeerAuthentication)
            }
            Kind::DestinationRule => space?.destination_rules.get(name).cloned().map(Object::DestinationRule),
            Kind::ConfigMap | Kind::Secret => {
                match self.mesh_source.as_ref().filter(|meta| meta.object == *reference) {
                    Some(meta) => Some(Object::MeshConfig(meta.clone(), self.world.mesh.clone())),
                    None => space?.credentials.get(&(*kind, name.clone())).cloned().map(Object::Credential),
                }
            }
            _ => None,
        }
    }

    fn insert(&mut self, object: Object) {
        self.claim(&object, true);
        let ObjectRef { namespace, name, .. } = object.reference().clone();
        match object {
            Object::Namespace(_) => {}
            Object::MeshConfig(meta, mesh) => {
                self.mesh_source = Some(meta);
                self.world.mesh = mesh;
            }
            Object::Service(new) => Arc::make_mut(&mut self.space(&namespace).services).insert(name, new),
            Object::EndpointSlice(new) => Arc::make_mut(&mut self.space(&namespace).slices).insert(name, new),
            Object::Workload(new) => Arc::make_mut(&mut self.space(&namespace).workloads).insert(new),
            Object::ServiceEntry(new) => {
                Arc::make_mut(&mut self.space(&namespace).service_entries).insert(name, new);
            }
            Object::Sidecar(new) => {
                Arc::make_mut(&mut self.space(&namespace).sidecars).insert(name, new);
            }
            Object::PeerAuthentication(new) => {
                Arc::make_mut(&mut self.space(&namespace).peer_authentications).insert(name, new);
            }
            Object::DestinationRule(new) => {
                Arc::make_mut(&mut self.space(&namespace).destination_rules).insert(name, new);
            }
            Object::Credential(new) => {
                let key = (new.meta.object.kind, name);
                Arc::make_mut(&mut self.space(&namespace).credentials).insert(key, new);
            }
        }
    }

    fn remove(&mut self, object: &Object) {
        self.claim(object, false);
        let ObjectRef { kind, namespace, name } = object.reference();
        if matches!(object, Object::MeshConfig(..)) {
            self.mesh_source = None;
            self.world.mesh = Arc::new(self.defaults.clone());
            return;
        }
        let space = self.space(namespace);
        match object {
            Object::Namespace(_) | Object::MeshConfig(..) => {}
            Object::Service(_) => drop(Arc::make_mut(&mut space.services).remove(name)),
            Object::EndpointSlice(_) => drop(Arc::make_mut(&mut space.slices).remove(name)),
            Object::Workload(_) => drop(Arc::make_mut(&mut space.workloads).remove(*kind, name)),
            Object::ServiceEntry(_) => drop(Arc::make_mut(&mut space.service_entries).remove(name)),
            Object::Sidecar(_) => drop(Arc::make_mut(&mut space.sidecars).remove(name)),
            Object::PeerAuthentication(_) => {
                drop(Arc::make_mut(&mut space.peer_authentications).remove(name))
            }
            Object::DestinationRule(_) => drop(Arc::make_mut(&mut space.destination_rules).remove(name)),
            Object::Credential(_) => {
                drop(Arc::make_mut(&mut space.credentials).remove(&(*kind, name.clone())));
            }
        }
        if space.is_empty() {
            self.world.namespaces.remove(namespace);
        }
    }

    /// Notes or forgets the hosts that an object claims; an ExternalName Service claims none, it is an alias of its
    /// target (POLICY.md O1).
    fn claim(&mut self, object: &Object, claim: bool) {
        match object {
            Object::Service(service) => {
                let reference = &service.meta.object;
                match &service.external_name {
                    Some(target) => note(&mut self.world.aliases, target, reference, claim),
                    None => {
                        let host = self.world.host_of(reference);
                        note(&mut self.world.hosts, &host, reference, claim);
                    }
                }
            }
            Object::ServiceEntry(entry) => {
                for host in &entry.hosts {
                    note(&mut self.world.hosts, host, &entry.meta.object, claim);
                }
            }
            _ => {}
        }
    }

    fn space(&mut self, name: &Name) -> &mut Namespace {
        Arc::make_mut(self.world.namespaces.entry(name.clone()).or_default())
    }
}

fn note(map: &mut Arc<BTreeMap<Host, BTreeSet<ObjectRef>>>, host: &Host, reference: &ObjectRef, claim: bool) {
    let map = Arc::make_mut(map);
    let owners = map.entry(host.clone()).or_default();
    if claim {
        owners.insert(reference.clone());
    } else {
        owners.remove(reference);
    }
    if owners.is_empty() {
        map.remove(host);
    }
}

/// Objects of Istio's kinds that are labelled for another revision are invisible (POLICY.md P10).
fn is_ours(object: &Object) -> bool {
    let istio = matches!(
        object.kind(),
        Kind::PeerAuthentication
            | Kind::DestinationRule
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::Sidecar
    );
    !istio || object.meta().labels.get(REVISION_LABEL).is_none_or(|revision| &**revision == REVISION)
}
