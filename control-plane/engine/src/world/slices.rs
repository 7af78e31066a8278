//! The EndpointSlices of one namespace, by name, by service and by what they point to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use eastwest_model::{Kind, Name, ObjectRef, service::EndpointSlice};

use super::objects::Store;

/// EndpointSlices with their indexes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slices {
    objects: BTreeMap<Key, Arc<EndpointSlice>>,
    by_service: BTreeMap<Name, BTreeSet<Key>>,
    by_pod: BTreeMap<Name, BTreeSet<Key>>,
    by_address: BTreeMap<IpAddr, BTreeSet<Key>>,
}

/// A slice and Endpoints may have the same name.
type Key = (Kind, Name);

impl Slices {
    /// The slices of a service, by name. Its Endpoints count only where there is no slice, which would mirror them.
    pub(crate) fn of_service(&self, service: &str) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let keys = self.by_service.get(service);
        let is_sliced = keys.is_some_and(|keys| keys.iter().any(|(kind, _)| *kind == Kind::EndpointSlice));
        self.named(keys).filter(move |one| !is_sliced || one.meta.object.kind == Kind::EndpointSlice)
    }

    /// The slices and Endpoints of a service, by name.
    pub(crate) fn all_of_service(&self, service: &str) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.named(self.by_service.get(service))
    }

    /// The slices that point to a Pod by name.
    pub(crate) fn of_pod(&self, pod: &str) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.named(self.by_pod.get(pod))
    }

    /// The slices that list an address.
    pub(crate) fn of_address(&self, address: IpAddr) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.named(self.by_address.get(&address))
    }

    fn named<'a>(&'a self, names: Option<&'a BTreeSet<Key>>) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        names.into_iter().flatten().filter_map(|name| self.objects.get(name))
    }
}

impl Store<EndpointSlice> for Slices {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<EndpointSlice>> {
        self.objects.get(&(reference.kind, reference.name.clone()))
    }

    fn insert(&mut self, reference: &ObjectRef, slice: Arc<EndpointSlice>) {
        self.remove(reference);
        let name = &(reference.kind, reference.name.clone());
        self.by_service.entry(slice.service.clone()).or_default().insert(name.clone());
        for endpoint in &slice.endpoints {
            if let Some(pod) = &endpoint.pod {
                self.by_pod.entry(pod.clone()).or_default().insert(name.clone());
            }
            for address in &endpoint.addresses {
                self.by_address.entry(*address).or_default().insert(name.clone());
            }
        }
        self.objects.insert(name.clone(), slice);
    }

    fn remove(&mut self, reference: &ObjectRef) {
        let name = &(reference.kind, reference.name.clone());
        let Some(slice) = self.objects.remove(name) else { return };
        remove_from(&mut self.by_service, &slice.service, name);
        for endpoint in &slice.endpoints {
            if let Some(pod) = &endpoint.pod {
                remove_from(&mut self.by_pod, pod, name);
            }
            for address in &endpoint.addresses {
                remove_from(&mut self.by_address, address, name);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Removes a value from an index, and the entry with its last value.
pub(super) fn remove_from<K: Ord, V: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(
    index: &mut BTreeMap<K, BTreeSet<V>>,
    key: &K,
    value: &Q,
) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}
