//! Objects that select workloads by label, indexed by the labels that they select.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{
    Labels, Name, ObjectRef, Selector,
    service::{Service, ServiceEntry},
};

use super::{objects::Store, slices::remove_from};

/// An object that may select workloads of its namespace.
pub(crate) trait Selects {
    /// The selector, `None` if nothing is selected.
    fn selector(&self) -> Option<&Selector>;
}

impl Selects for Service {
    /// Kubernetes takes an empty selector for none.
    fn selector(&self) -> Option<&Selector> {
        self.selector.as_ref().filter(|selector| !selector.is_empty() && self.external_name.is_none())
    }
}

impl Selects for ServiceEntry {
    fn selector(&self) -> Option<&Selector> {
        self.workload_selector.as_ref()
    }
}

/// Objects of one kind and namespace by name, and by the first label of each selector.
#[derive(Debug)]
pub(crate) struct Selecting<T> {
    objects: BTreeMap<Name, Arc<T>>,
    by_label: BTreeMap<(Name, Name), BTreeSet<Name>>,
    of_all: BTreeSet<Name>,
}

impl<T> Default for Selecting<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), by_label: BTreeMap::new(), of_all: BTreeSet::new() }
    }
}

impl<T> Clone for Selecting<T> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), by_label: self.by_label.clone(), of_all: self.of_all.clone() }
    }
}

impl<T: Selects> Selecting<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.objects.get(name)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    /// The objects whose selector is satisfied by `labels`.
    pub(crate) fn selecting<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Arc<T>> {
        labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())))
            .chain([&self.of_all])
            .flatten()
            .filter_map(|name| self.objects.get(name))
            .filter(|object| object.selector().is_some_and(|selector| selector.matches(labels)))
    }
}

impl<T: Selects> Store<T> for Selecting<T> {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<T>> {
        self.objects.get(&reference.name)
    }

    fn insert(&mut self, reference: &ObjectRef, object: Arc<T>) {
        self.remove(reference);
        let name = reference.name.clone();
        match object.selector().map(|selector| selector.0.first_key_value()) {
            Some(Some((key, value))) => {
                self.by_label.entry((key.clone(), value.clone())).or_default().insert(name.clone());
            }
            Some(None) => {
                self.of_all.insert(name.clone());
            }
            None => {}
        }
        self.objects.insert(name, object);
    }

    fn remove(&mut self, reference: &ObjectRef) {
        let name = &*reference.name;
        let Some(object) = self.objects.remove(name) else { return };
        self.of_all.remove(name);
        if let Some((key, value)) = object.selector().and_then(|selector| selector.0.first_key_value()) {
            remove_from(&mut self.by_label, &(key.clone(), value.clone()), name);
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}
