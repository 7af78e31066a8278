//! What a change of the world changes for each proxy (`eastwest diff`): names of resources by type.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    ClientScope, Snapshot, compute,
    diff::survivors,
    settings::{Outbound, WorkloadTls},
};
use eastwest_model::{Workload, WorkloadKey};
use eastwest_xds::{EncodedResource, ResourceSet, Version, View};
use serde::Serialize;

use crate::{Audience, OutboundResources, ProxyFacts, ProxyRole, ResourceType, Translator};

/// Proxies for which the same changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyChanges {
    /// Who, sorted.
    pub proxies: Vec<WorkloadKey>,
    /// What changes, by type; types without a change are left out.
    pub types: BTreeMap<ResourceType, NameChanges>,
}

/// The names of resources of one type, each list sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NameChanges {
    /// Only there after the change.
    pub added: Vec<Arc<str>>,
    /// There before and after with another content.
    pub changed: Vec<Arc<str>>,
    /// Only there before the change.
    pub removed: Vec<Arc<str>>,
}

/// Compares what stock Envoys get in two worlds. Proxies that only one of the worlds knows are passed over; those for
/// which nothing changes are left out. Sorted by the first proxy.
pub fn compare(before: &Snapshot, after: &Snapshot) -> Vec<ProxyChanges> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let proxied = |(old, new): &(&Workload, &Workload)| compute::has_proxy(old) && compute::has_proxy(new);
    for (old, new) in survivors(before, after).filter(proxied) {
        let scopes = (compute::client_scope(before, old), compute::client_scope(after, new));
        groups.entry(scopes).or_default().push((old, new));
    }
    let mut comparer = Comparer::default();
    let mut changes: BTreeMap<BTreeMap<ResourceType, NameChanges>, BTreeSet<WorkloadKey>> = BTreeMap::new();
    for ((scope_before, scope_after), proxies) in groups {
        let old_side = comparer.side(before, &scope_before);
        let new_side = comparer.side(after, &scope_after);
        for (old, new) in proxies {
            let views = (comparer.view(&old_side, old), comparer.view(&new_side, new));
            let (Some(view_before), Some(view_after)) = views else { continue };
            let changed = comparer.changes(&view_before, &view_after);
            if !changed.is_empty() {
                changes.entry(changed).or_default().insert(new.key());
            }
        }
        comparer.translator.forget_unused();
    }
    let found = changes.into_iter().map(|(types, keys)| (keys.into_iter().collect(), types));
    let mut found: Vec<_> = found.map(|(proxies, types)| ProxyChanges { proxies, types }).collect();
    found.sort_by(|a, b| a.proxies.cmp(&b.proxies));
    found
}

/// Makes views and remembers the differences between sets, which many proxies share.
#[derive(Default)]
struct Comparer {
    translator: Translator,
    known: BTreeMap<(ResourceType, Version, Version), NameChanges>,
}

/// One world as the proxies of one scope see it.
struct Side<'a> {
    snapshot: &'a Snapshot,
    outbound: Arc<Outbound>,
    resources: OutboundResources,
}

impl Comparer {
    fn side<'a>(&mut self, snapshot: &'a Snapshot, scope: &ClientScope) -> Side<'a> {
        let outbound = Arc::new(compute::outbound(snapshot, scope));
        let resources = self.translator.outbound(ProxyRole::Sidecar, &outbound, None);
        Side { snapshot, outbound, resources }
    }

    /// `None` for a workload that cannot have an identity, and so no proxy.
    fn view(&mut self, side: &Side<'_>, workload: &Workload) -> Option<Arc<View>> {
        let settings = WorkloadTls {
            workload: workload.key(),
            identity: compute::identity(side.snapshot, workload).ok()?,
            inbound: Arc::new(compute::inbound(side.snapshot, workload)),
            outbound: Arc::clone(&side.outbound),
            warnings: Vec::new(),
        };
        let facts = ProxyFacts::usual(Audience::Envoy);
        Some(self.translator.view(&settings, &side.resources, facts, None))
    }

    fn changes(&mut self, before: &View, after: &View) -> BTreeMap<ResourceType, NameChanges> {
        let mut found = BTreeMap::new();
        for one in ResourceType::all() {
            let url = one.type_url();
            let (Some(old), Some(new)) = (before.get(&url), after.get(&url)) else { continue };
            if old.version() != new.version() {
                let key = (one, old.version(), new.version());
                let changes = self.known.entry(key).or_insert_with(|| NameChanges::between(old, new));
                found.insert(one, changes.clone());
            }
        }
        found
    }
}

impl NameChanges {
    fn between(before: &ResourceSet, after: &ResourceSet) -> Self {
        let name = |resource: &Arc<EncodedResource>| Arc::clone(resource.name());
        let new = after.iter().filter(|one| before.get(one.name()).is_none());
        let gone = before.iter().filter(|one| after.get(one.name()).is_none());
        let other = after
            .iter()
            .filter(|one| before.get(one.name()).is_some_and(|previous| previous.version() != one.version()));
        Self {
            added: new.map(name).collect(),
            changed: other.map(name).collect(),
            removed: gone.map(name).collect(),
        }
    }
}
