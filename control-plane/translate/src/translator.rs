//! Makes views: what one proxy is entitled to see.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::settings::{Outbound, WorkloadTls};
use eastwest_model::Host;
use eastwest_xds::{ResourceSet, TypeUrl, Version, View};

use crate::{
    facts::ProxyFacts,
    outbound::OutboundResources,
    proxy_resources::{ProxyResources, ProxyType},
    resource::Cache,
    roles::ProxyRole,
    sweep::Sweep,
    type_builder::{Access, updated},
};

/// Turns settings into resources, each encoded once.
#[derive(Debug, Default)]
pub struct Translator {
    cache: Cache,
    /// Sets of which a part is shared by a client scope and a part is the workload's own, by the versions of both.
    joined: BTreeMap<(TypeUrl, Version, Version), Arc<ResourceSet>>,
    joined_sweep: Sweep,
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

    /// What a proxy with these settings is entitled to see, made at once. `before`: its view until now; the same `Arc` if
    /// nothing differs.
    pub fn view(
        &mut self,
        settings: &WorkloadTls,
        outbound: &OutboundResources,
        facts: ProxyFacts,
        before: Option<&Arc<View>>,
    ) -> Arc<View> {
        let proxy = self.proxy(settings, outbound, facts, None);
        self.view_of(&proxy, outbound, before)
    }

    /// What is made from the settings of one proxy. `before`: what it was, so that what stays the same stays shared.
    pub fn proxy(
        &mut self,
        settings: &WorkloadTls,
        outbound: &OutboundResources,
        facts: ProxyFacts,
        before: Option<&ProxyResources>,
    ) -> ProxyResources {
        ProxyResources::new(&mut self.cache, settings, outbound, facts, before)
    }

    /// What one proxy is entitled to see. `before`: its view until now; the same `Arc` if nothing differs. A type whose
    /// shared resources and own ones are the same costs a comparison.
    pub fn view_of(
        &mut self,
        proxy: &ProxyResources,
        outbound: &OutboundResources,
        before: Option<&Arc<View>>,
    ) -> Arc<View> {
        let sets = proxy.types().zip(outbound.types()).filter_map(|(own, (_, shared))| {
            let before = before.and_then(|view| view.get(shared.type_url()));
            self.set(own, shared, before)
        });
        let sets: Vec<_> = sets.collect();
        match before {
            Some(before) => before.next(sets),
            None => Arc::new(View::new(sets)),
        }
    }

    /// Drops what no view holds any more.
    pub fn forget_unused(&mut self) {
        self.joined_sweep.retain(&mut self.joined, |set| Arc::strong_count(set) > 1);
        self.cache.forget_unused();
    }

    /// The resources of one type; `None` if the proxy is not served the type.
    fn set(
        &mut self,
        proxy: &ProxyType,
        shared: &Arc<ResourceSet>,
        before: Option<&Arc<ResourceSet>>,
    ) -> Option<Arc<ResourceSet>> {
        match &proxy.access {
            Access::None => None,
            Access::Own => {
                Some(before.filter(|set| set.version() == proxy.own.version()).unwrap_or(&proxy.own).clone())
            }
            Access::AllBut(hidden) if proxy.own.is_empty() && hidden.is_empty() => Some(Arc::clone(shared)),
            Access::AllBut(_) => Some(self.join(proxy, shared, before)),
        }
    }

    /// The shared resources without the hidden ones, and the workload's own. Workloads with equal ones get the same
    /// set, made once.
    fn join(
        &mut self,
        proxy: &ProxyType,
        shared: &ResourceSet,
        before: Option<&Arc<ResourceSet>>,
    ) -> Arc<ResourceSet> {
        let ProxyType { builder, own, .. } = proxy;
        let key = (builder.type_url(), shared.version(), own.version());
        if let Some(set) = self.joined.get(&key) {
            return Arc::clone(set);
        }
        let set = self.joined_step(proxy, shared).unwrap_or_else(|| {
            let shared = shared.iter().filter(|one| proxy.shows(one.name()));
            updated(*builder, before, shared.chain(own.iter()).cloned().collect())
        });
        self.joined.insert(key, Arc::clone(&set));
        set
    }

    /// The joined set of what was shared or was the workload's own before, followed by the steps since then.
    fn joined_step(&self, proxy: &ProxyType, shared: &ResourceSet) -> Option<Arc<ResourceSet>> {
        let ProxyType { own, .. } = proxy;
        let unchanged = |set: &ResourceSet| (set.version(), Vec::new());
        let step = |set: &ResourceSet| set.step().map(|(from, names)| (from, names.to_vec()));
        let candidates = [
            (step(shared), Some(unchanged(own))),
            (Some(unchanged(shared)), step(own)),
            (step(shared), step(own)),
        ];
        candidates.into_iter().find_map(|(of_shared, of_own)| {
            let ((shared_from, mut names), (own_from, own_names)) = (of_shared?, of_own?);
            let earlier = self.joined.get(&(shared.type_url().clone(), shared_from, own_from))?;
            names.extend(own_names);
            let now = |name: &Arc<str>| {
                let of_shared = || shared.get(name).filter(|_| proxy.shows(name));
                own.get(name).or_else(of_shared).cloned()
            };
            Some(earlier.edited(names.into_iter().map(|name| (Arc::clone(&name), now(&name)))))
        })
    }
}
