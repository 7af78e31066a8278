//! The workloads of one namespace, by name, by label and by address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

use eastwest_model::{Kind, Name, ObjectRef, Selector, Workload};

use super::{objects::Store, slices::remove_from};

/// A Pod, a template and a WorkloadEntry may have the same name; the Pod comes first.
type Key = (Kind, Name);

/// Pods and WorkloadEntries with their indexes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workloads {
    objects: BTreeMap<Key, Arc<Workload>>,
    by_label: BTreeMap<(Name, Name), BTreeSet<Key>>,
    by_address: BTreeMap<IpAddr, BTreeSet<Key>>,
}

impl Workloads {
    /// The Pod of that name, else the template, else the WorkloadEntry.
    pub(crate) fn get(&self, name: &Name) -> Option<&Arc<Workload>> {
        const KINDS: [Kind; 8] = [
            Kind::Pod,
            Kind::Deployment,
            Kind::StatefulSet,
            Kind::DaemonSet,
            Kind::ReplicaSet,
            Kind::Job,
            Kind::CronJob,
            Kind::WorkloadEntry,
        ];
        KINDS.iter().find_map(|kind| self.of_kind(*kind, name)).filter(|one| self.counts(one))
    }

    /// A template stands for its Pods only where there is none of them.
    fn counts(&self, workload: &Arc<Workload>) -> bool {
        let pods_have = |label: (&Name, &Name)| {
            let keys = self.by_label.get(&(label.0.clone(), label.1.clone()));
            keys.into_iter()
                .flatten()
                .filter(|key| key.0 == Kind::Pod)
                .filter_map(|key| self.objects.get(key))
        };
        let is_its = |pod: &Arc<Workload>| workload.is_template_of(pod);
        !workload.meta.object.kind.has_template()
            || workload.meta.labels.first_key_value().is_none_or(|label| !pods_have(label).any(is_its))
    }

    pub(crate) fn pod(&self, name: &Name) -> Option<&Arc<Workload>> {
        self.objects.get(&(Kind::Pod, name.clone()))
    }

    pub(crate) fn of_kind(&self, kind: Kind, name: &Name) -> Option<&Arc<Workload>> {
        self.objects.get(&(kind, name.clone()))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.objects.values().filter(|workload| self.counts(workload))
    }

    /// The workloads that a selector picks; an empty one picks all.
    pub(crate) fn selected<'a>(
        &'a self,
        selector: &'a Selector,
    ) -> Box<dyn Iterator<Item = &'a Arc<Workload>> + 'a> {
        let rarest = selector
            .0
            .iter()
            .map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())))
            .min_by_key(|keys| keys.map_or(0, BTreeSet::len));
        match rarest {
            None => Box::new(self.values()),
            Some(keys) => Box::new(
                keys.into_iter()
                    .flatten()
                    .filter_map(|key| self.objects.get(key))
                    .filter(|workload| selector.matches(&workload.meta.labels) && self.counts(workload)),
            ),
        }
    }

    /// The workloads at the addresses of a range, each with its address; those that have ended own none.
    pub(crate) fn within(
        &self,
        range: RangeInclusive<IpAddr>,
    ) -> impl Iterator<Item = (IpAddr, &Arc<Workload>)> {
        let keys = self.by_address.range(range);
        keys.flat_map(|(address, keys)| {
            keys.iter().filter_map(|key| Some((*address, self.objects.get(key)?)))
        })
    }

    /// The workloads at an address; those that have ended own it no longer.
    pub(crate) fn at_address(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_address.get(&address).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }
}

impl Store<Workload> for Workloads {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<Workload>> {
        self.of_kind(reference.kind, &reference.name)
    }

    fn insert(&mut self, reference: &ObjectRef, workload: Arc<Workload>) {
        self.remove(reference);
        let key = (reference.kind, reference.name.clone());
        for (label, value) in workload.meta.labels.iter() {
            self.by_label.entry((label.clone(), value.clone())).or_default().insert(key.clone());
        }
        for address in workload.addresses.iter().filter(|_| !workload.ended) {
            self.by_address.entry(*address).or_default().insert(key.clone());
        }
        self.objects.insert(key, workload);
    }

    fn remove(&mut self, reference: &ObjectRef) {
        let key = (reference.kind, reference.name.clone());
        let Some(workload) = self.objects.remove(&key) else { return };
        for (label, value) in workload.meta.labels.iter() {
            remove_from(&mut self.by_label, &(label.clone(), value.clone()), &key);
        }
        for address in &workload.addresses {
            remove_from(&mut self.by_address, address, &key);
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}
