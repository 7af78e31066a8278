//! Makes views: what one proxy is entitled to see.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::settings::{Outbound, WorkloadTls};
use eastwest_model::Host;
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, Version, View};

use crate::{
    facts::ProxyFacts,
    outbound::OutboundResources,
    resource::Cache,
    roles::ProxyRole,
    type_builder::{Access, ProxyInputs, TypeBuilder, updated},
};

/// Turns settings into resources, each encoded once.
#[derive(Debug, Default)]
pub struct Translator {
    cache: Cache,
    /// Sets of which a part is shared by a client scope and a part is the workload's own, by the versions of both.
    joined: BTreeMap<(TypeUrl, Version, Version), Arc<ResourceSet>>,
}

impl Translator {
    /// The resources of a client scope for proxies of a role. `before`: what they were, so that what stays the same
    /// stays shared, and hosts whose settings are the same object cost nothing.
    pub fn outbound(
        &mut self,
        role: ProxyRole,
        outbound: &Outbound,
        before: Option<&OutboundResources>,
    ) -> OutboundResources {
        OutboundResources::new(&mut self.cache, role, outbound, before)
    }

    /// Brings the resources of a client scope up to date with settings of which only these hosts differ. The cost does
    /// not depend on the number of other hosts, but for one pointer each, and for those that share a changed resource.
    pub fn renew(&mut self, resources: &mut OutboundResources, outbound: &Outbound, hosts: &BTreeSet<Host>) {
        resources.renew(&mut self.cache, outbound, hosts);
    }

    /// What one proxy is entitled to see. `before`: its view until now; the same `Arc` if nothing differs.
    pub fn view(
        &mut self,
        settings: &WorkloadTls,
        outbound: &OutboundResources,
        facts: ProxyFacts,
        before: Option<&Arc<View>>,
    ) -> Arc<View> {
        let proxy = ProxyInputs { settings, facts, encoded_settings: outbound.encoded_settings() };
        let sets = outbound.types().filter_map(|(builder, shared)| {
            let before = before.and_then(|view| view.get(shared.type_url()));
            self.set(builder, shared, &proxy, before)
        });
        let sets: Vec<_> = sets.collect();
        match before {
            Some(before) => before.next(sets),
            None => Arc::new(View::new(sets)),
        }
    }

    /// Drops what no view holds any more.
    pub fn forget_unused(&mut self) {
        self.joined.retain(|_, set| Arc::strong_count(set) > 1);
        self.cache.forget_unused();
    }

    /// The resources of one type; `None` if the proxy is not served the type.
    fn set(
        &mut self,
        builder: &dyn TypeBuilder,
        shared: &Arc<ResourceSet>,
        proxy: &ProxyInputs<'_>,
        before: Option<&Arc<ResourceSet>>,
    ) -> Option<Arc<ResourceSet>> {
        let access = builder.access(proxy.facts);
        if matches!(access, Access::None) {
            return None;
        }
        let own = builder.of_proxy(&mut self.cache, proxy);
        Some(match access {
            Access::AllBut(hidden) if own.is_empty() && hidden.is_empty() => Arc::clone(shared),
            Access::AllBut(hidden) => self.join(builder, shared, &hidden, own, before),
            Access::Own | Access::None => updated(builder, before, own),
        })
    }

    /// The shared resources without the hidden ones, and the workload's own. Workloads with equal ones get the same
    /// set, made once.
    fn join(
        &mut self,
        builder: &dyn TypeBuilder,
        shared: &ResourceSet,
        hidden: &[String],
        own: Vec<Arc<EncodedResource>>,
        before: Option<&Arc<ResourceSet>>,
    ) -> Arc<ResourceSet> {
        let own = ResourceSet::new(builder.type_url(), own);
        let key = (builder.type_url(), shared.version(), own.version());
        if let Some(set) = self.joined.get(&key) {
            return Arc::clone(set);
        }
        let visible = |name: &str| hidden.iter().all(|other| other != name);
        let set = self.joined_step(shared, &own, visible).unwrap_or_else(|| {
            let shared = shared.iter().filter(|one| visible(one.name()));
            updated(builder, before, shared.chain(own.iter()).cloned().collect())
        });
        self.joined.insert(key, Arc::clone(&set));
        set
    }

    /// The joined set of what was shared before, followed by the step since then.
    fn joined_step(
        &self,
        shared: &ResourceSet,
        own: &ResourceSet,
        visible: impl Fn(&str) -> bool,
    ) -> Option<Arc<ResourceSet>> {
        let (from, names) = shared.step()?;
        let earlier = self.joined.get(&(shared.type_url().clone(), from, own.version()))?;
        let names = names.iter().filter(|name| visible(name) && own.get(name).is_none());
        Some(earlier.edited(names.map(|name| (Arc::clone(name), shared.get(name).cloned()))))
    }
}
