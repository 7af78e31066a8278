//! The mutable index of all objects: one writer applies changes and takes snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{Change, Kind, Labels, MeshConfig, Meta, Name, Object, ObjectRef};

use super::{
    DirtySet, Namespace, Snapshot,
    kinds::{self, Claim},
};

/// Label that binds an object to one revision of the control plane (POLICY.md P10).
const REVISION_LABEL: &str = "istio.io/rev";
/// The revision of this control plane; objects without the label belong to every revision.
const REVISION: &str = "default";

/// The mutable index of all objects.
#[derive(Debug)]
pub struct Index {
    snapshot: Snapshot,
    defaults: MeshConfig,
    /// The object that the mesh's settings come from, if not from the defaults.
    mesh_source: Option<Arc<Meta>>,
}

impl Index {
    /// An empty index; a MeshConfig object that is applied later wins over `defaults`.
    pub fn new(defaults: MeshConfig) -> Self {
        Self { snapshot: Snapshot::new(defaults.clone()), defaults, mesh_source: None }
    }

    /// The present state, shared: nothing is copied but one pointer for each namespace.
    pub fn freeze(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }

    /// Applies a change and returns what it may have touched.
    pub fn apply(&mut self, change: Change) -> DirtySet {
        match change {
            Change::Upsert(Object::Namespace(meta)) => {
                self.note_injection(meta.name(), injects(&meta.labels))
            }
            Change::Delete(reference) if reference.kind == Kind::Namespace => {
                self.note_injection(&reference.name, false)
            }
            Change::Upsert(object) if is_ours(&object) => {
                self.replace(&object.reference().clone(), Some(object))
            }
            Change::Upsert(object) => self.replace(object.reference(), None),
            Change::Delete(reference) => self.replace(&reference, None),
        }
    }

    /// Notes whether Pods of a namespace get sidecars. No settings of a proxy follow from it.
    fn note_injection(&mut self, namespace: &Name, injects: bool) -> DirtySet {
        if self.snapshot.injecting.contains(namespace) != injects {
            let injecting = Arc::make_mut(&mut self.snapshot.injecting);
            if injects {
                injecting.insert(namespace.clone());
            } else {
                injecting.remove(namespace);
            }
        }
        DirtySet::default()
    }

    fn replace(&mut self, reference: &ObjectRef, object: Option<Object>) -> DirtySet {
        let old = self.get(reference);
        if old == object {
            return DirtySet::default();
        }
        let both = old.as_ref().zip(object.as_ref());
        let decides_the_same = both.is_some_and(|(old, new)| kinds::decide_the_same(old, new));
        let spares_clients = both.is_some_and(|(old, new)| kinds::are_same_for_clients(old, new));
        let mut dirty = DirtySet::default();
        if let Some(old) = &old {
            if !decides_the_same {
                dirty.merge(kinds::affected(&self.snapshot, old));
            }
            self.remove(old);
        }
        if let Some(new) = &object {
            self.insert(new.clone());
            if !decides_the_same {
                dirty.merge(kinds::affected(&self.snapshot, new));
            }
        }
        if spares_clients {
            dirty.spare_clients();
        }
        dirty
    }

    fn get(&self, reference: &ObjectRef) -> Option<Object> {
        match self.mesh_source.as_ref().filter(|meta| meta.object == *reference) {
            Some(meta) => Some(Object::MeshConfig(meta.clone(), self.snapshot.mesh.clone())),
            None => self.snapshot.namespaces.get(&reference.namespace)?.get(reference),
        }
    }

    fn insert(&mut self, object: Object) {
        self.note_claims(&object, true);
        match object {
            Object::Namespace(_) => {}
            Object::MeshConfig(meta, mesh) => {
                self.mesh_source = Some(meta);
                self.snapshot.mesh = mesh;
            }
            object => self.namespace(&object.reference().namespace.clone()).insert(object),
        }
    }

    fn remove(&mut self, object: &Object) {
        self.note_claims(object, false);
        if matches!(object, Object::MeshConfig(..)) {
            self.mesh_source = None;
            self.snapshot.mesh = Arc::new(self.defaults.clone());
            return;
        }
        let reference = object.reference();
        let namespace = self.namespace(&reference.namespace);
        namespace.remove(reference);
        if namespace.is_empty() {
            self.snapshot.namespaces.remove(&reference.namespace);
        }
    }

    /// Adds the hosts and addresses that an object claims, or removes them.
    fn note_claims(&mut self, object: &Object, add: bool) {
        let reference = object.reference();
        for claim in kinds::claims(&self.snapshot, object) {
            match claim {
                Claim::Owner(host) => note(&mut self.snapshot.hosts, &host, reference, add),
                Claim::AliasOf(host) => note(&mut self.snapshot.aliases, &host, reference, add),
                Claim::Addresses => {
                    let addressed = Arc::make_mut(&mut self.snapshot.addressed);
                    match add {
                        true => addressed.insert(reference.clone()),
                        false => addressed.remove(reference),
                    };
                }
                Claim::Address(address) => note(&mut self.snapshot.cluster_ips, &address, reference, add),
            }
        }
    }

    fn namespace(&mut self, name: &Name) -> &mut Namespace {
        Arc::make_mut(self.snapshot.namespaces.entry(name.clone()).or_default())
    }
}

fn note<K: Ord + Clone>(
    map: &mut Arc<BTreeMap<K, BTreeSet<ObjectRef>>>,
    claimed: &K,
    reference: &ObjectRef,
    add: bool,
) {
    let map = Arc::make_mut(map);
    let owners = map.entry(claimed.clone()).or_default();
    if add {
        owners.insert(reference.clone());
    } else {
        owners.remove(reference);
    }
    if owners.is_empty() {
        map.remove(claimed);
    }
}

/// Whether the labels of a namespace ask for sidecars: `enabled`, or any revision where neither label of injection is
/// there.
fn injects(labels: &Labels) -> bool {
    let switch = ["istio-injection", "eastwest.dev/injection"].iter().find_map(|label| labels.get(*label));
    switch.map_or_else(|| labels.get(REVISION_LABEL).is_some(), |value| &**value == "enabled")
}

/// Objects of Istio's kinds that are labelled for another revision are invisible (POLICY.md P10).
fn is_ours(object: &Object) -> bool {
    let revision = object.meta().labels.get(REVISION_LABEL);
    !object.kind().group().is_istio() || revision.is_none_or(|revision| &**revision == REVISION)
}
