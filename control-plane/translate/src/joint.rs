//! Resources to which several hosts contribute, e.g. the listener of a port. An index of the hosts of each resource
//! keeps them up to date: a change of some hosts makes only the resources anew to which these contribute.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use eastwest_engine::settings::{Outbound, OutboundService};
use eastwest_model::Host;
use eastwest_xds::EncodedResource;

use crate::resource::Cache;

/// A type whose resources are made of what hosts contribute.
pub(crate) trait JointType: Debug + Send + Sync + 'static {
    /// Identifies a resource of a client scope.
    type Key: Debug + Clone + Ord + Send + Sync;
    /// What a host contributes to a resource.
    type Part<'a>: PartialEq;

    /// The name of the resource.
    fn name(key: &Self::Key) -> String;

    /// All that a host contributes.
    fn parts(service: &OutboundService) -> Vec<(Self::Key, Self::Part<'_>)>;

    /// The resource made of what hosts contribute, in the order of the hosts: at least one part. `None` if that makes
    /// none.
    fn resource(
        cache: &mut Cache,
        key: &Self::Key,
        parts: &[&Self::Part<'_>],
        outbound: &Outbound,
    ) -> Option<Arc<EncodedResource>>;
}

/// A host whose settings changed; `None` where it does not exist.
pub(crate) struct HostChange<'a> {
    pub(crate) host: &'a Host,
    pub(crate) before: Option<&'a OutboundService>,
    pub(crate) after: Option<&'a OutboundService>,
}

/// The resources that changed, by name; `None` = removed.
pub(crate) type Edits = BTreeMap<Arc<str>, Option<Arc<EncodedResource>>>;

/// The joint resources of one type in one client scope.
pub(crate) trait JointResources: Debug + Send + Sync {
    /// Makes all resources anew.
    fn replace(&mut self, cache: &mut Cache, outbound: &Outbound) -> Vec<Arc<EncodedResource>>;

    /// Follows settings of which only some hosts differ. Resources to which these contribute the same as before are
    /// not looked at: most changes are about endpoints and TLS.
    fn update(&mut self, cache: &mut Cache, outbound: &Outbound, changes: &[HostChange<'_>]) -> Edits;
}

/// The hosts that contribute to each resource.
#[derive(Debug)]
pub(crate) struct HostIndex<T: JointType> {
    hosts: BTreeMap<T::Key, BTreeSet<Host>>,
}

impl<T: JointType> Default for HostIndex<T> {
    fn default() -> Self {
        Self { hosts: BTreeMap::new() }
    }
}

/// What one host contributes, by resource.
type PartsByKey<'a, T> = BTreeMap<<T as JointType>::Key, Vec<<T as JointType>::Part<'a>>>;

fn parts_by_key<T: JointType>(service: &OutboundService) -> PartsByKey<'_, T> {
    let mut parts: PartsByKey<'_, T> = BTreeMap::new();
    for (key, part) in T::parts(service) {
        parts.entry(key).or_default().push(part);
    }
    parts
}

impl<T: JointType> HostIndex<T> {
    /// Updates the index; returns the resources to which the host contributes something else than before.
    fn apply(&mut self, change: &HostChange<'_>) -> Vec<T::Key> {
        let [before, after] =
            [change.before, change.after].map(|one| one.map(parts_by_key::<T>).unwrap_or_default());
        let mut changed = Vec::new();
        for (key, parts) in &after {
            if before.get(key) != Some(parts) {
                changed.push(key.clone());
                self.hosts.entry(key.clone()).or_default().insert(change.host.clone());
            }
        }
        for key in before.into_keys().filter(|key| !after.contains_key(key)) {
            if let Some(hosts) = self.hosts.get_mut(&key) {
                hosts.remove(change.host);
                if hosts.is_empty() {
                    self.hosts.remove(&key);
                }
            }
            changed.push(key);
        }
        changed
    }

    fn hosts(&self, key: &T::Key) -> impl Iterator<Item = &Host> {
        self.hosts.get(key).into_iter().flatten()
    }
}

impl<T: JointType> JointResources for HostIndex<T> {
    fn replace(&mut self, cache: &mut Cache, outbound: &Outbound) -> Vec<Arc<EncodedResource>> {
        self.hosts.clear();
        let mut parts: PartsByKey<'_, T> = BTreeMap::new();
        for (host, service) in &outbound.services {
            for (key, part) in T::parts(service) {
                self.hosts.entry(key.clone()).or_default().insert(host.clone());
                parts.entry(key).or_default().push(part);
            }
        }
        let resource = |(key, parts): (&T::Key, &Vec<T::Part<'_>>)| {
            T::resource(cache, key, &parts.iter().collect::<Vec<_>>(), outbound)
        };
        parts.iter().filter_map(resource).collect()
    }

    fn update(&mut self, cache: &mut Cache, outbound: &Outbound, changes: &[HostChange<'_>]) -> Edits {
        let changed: BTreeSet<T::Key> = changes.iter().flat_map(|change| self.apply(change)).collect();
        let mut parts: BTreeMap<&Host, PartsByKey<'_, T>> = BTreeMap::new();
        for host in changed.iter().flat_map(|key| self.hosts(key)) {
            if let Some(service) = outbound.services.get(host) {
                parts.entry(host).or_insert_with(|| parts_by_key::<T>(service));
            }
        }
        let resource = |key: T::Key| {
            let parts = self.hosts(&key).filter_map(|host| parts.get(host)?.get(&key)).flatten();
            let parts: Vec<_> = parts.collect();
            // A resource goes with the last host that contributes to it.
            let resource = if parts.is_empty() { None } else { T::resource(cache, &key, &parts, outbound) };
            (T::name(&key).into(), resource)
        };
        changed.into_iter().map(resource).collect()
    }
}
