//! Objects of one type in one namespace, by kind and name, without further indexes.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{Kind, Name, ObjectRef};

/// A map of the objects of one type in one namespace.
pub(super) trait Store<T>: Clone + Default {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<T>>;
    fn insert(&mut self, reference: &ObjectRef, object: Arc<T>);
    fn remove(&mut self, reference: &ObjectRef);
    fn is_empty(&self) -> bool;
}

/// The map of a type that is only ever listed or found by name.
#[derive(Debug)]
pub(crate) struct Objects<T>(BTreeMap<(Kind, Name), Arc<T>>);

impl<T> Objects<T> {
    pub(crate) fn get(&self, kind: Kind, name: &Name) -> Option<&Arc<T>> {
        self.0.get(&(kind, name.clone()))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values()
    }
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Clone for Objects<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Store<T> for Objects<T> {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<T>> {
        Objects::get(self, reference.kind, &reference.name)
    }

    fn insert(&mut self, reference: &ObjectRef, object: Arc<T>) {
        self.0.insert((reference.kind, reference.name.clone()), object);
    }

    fn remove(&mut self, reference: &ObjectRef) {
        self.0.remove(&(reference.kind, reference.name.clone()));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
