//! Settings to Envoy resources and to our own types, one generator a type.
//!
//! Everything that stock Envoy is sent is made here, and nothing that it does not know. A generator is a value with
//! the inputs of one resource; [`Translator`] keeps what was generated, so that equal inputs give the same bytes,
//! encoded once and shared by every proxy.
//!
//! ```text
//! Outbound ─→ OutboundResources (one a client scope) ─┐
//! Inbound  ─→ virtualInbound, inbound clusters ───────┴→ View (one a proxy; equal ones share their sets)
//! ```
//!
//! [`render`] shows a view to people, [`compare`] says what a change of the world changes for each proxy.

pub mod compare;
mod fleet;
mod outbound;
pub mod render;
mod resource;
mod resource_type;
pub mod sidecar;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::settings::{Inbound, Outbound, WorkloadTls};
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, Version, View};

use crate::{
    outbound::succeed,
    resource::Cache,
    sidecar::{
        cds::{Internal, OriginalDestination},
        lds,
        names::{self, INBOUND_PASSTHROUGH_CLUSTER},
    },
};

pub use crate::{
    fleet::{Fleet, ProxyKey},
    outbound::OutboundResources,
    resource_type::ResourceType,
};

/// Who a view is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Stock Envoy: its own types.
    Envoy,
    /// Anybody else: [`TypeUrl::WORKLOAD_TLS`] too, which repeats the settings of all hosts for each workload.
    Other,
}

/// What a view depends on besides settings: facts that a proxy tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyFacts {
    /// Who it is for.
    pub audience: Audience,
    /// Where the redirection sends inbound connections; usually [`sidecar::names::INBOUND_PORT`].
    pub inbound_port: u16,
    /// Where the redirection sends outbound connections, another one; usually [`sidecar::names::OUTBOUND_PORT`].
    pub outbound_port: u16,
    /// It has proven who it is. Only then it is handed secrets, and only if its workload is known, for else its labels
    /// are its own word.
    pub proven: bool,
    /// Whether it can have internal listeners: servers that speak first are then heard at once on plaintext ports.
    pub internal_listeners: bool,
}

impl ProxyFacts {
    /// The facts of most proxies of a kind.
    pub fn usual(audience: Audience) -> Self {
        Self {
            audience,
            inbound_port: names::INBOUND_PORT,
            outbound_port: names::OUTBOUND_PORT,
            proven: true,
            internal_listeners: false,
        }
    }
}

/// Turns settings into resources, each encoded once.
#[derive(Debug, Default)]
pub struct Translator {
    cache: Cache,
    /// Sets of which a part is shared by a client scope and a part is the workload's own, by the versions of both.
    joined: BTreeMap<(TypeUrl, Version, Version), Arc<ResourceSet>>,
}

impl Translator {
    /// The resources of a client scope. `before`: what they were, so that what stays the same stays shared, and hosts
    /// whose settings are the same object cost nothing.
    pub fn outbound(&mut self, outbound: &Outbound, before: Option<&OutboundResources>) -> OutboundResources {
        OutboundResources::new(&mut self.cache, outbound, before)
    }

    /// Brings the resources of a client scope up to date with settings of which only these hosts differ. What that
    /// costs does not depend on the number of other hosts, but for one pointer each.
    pub fn renew(
        &mut self,
        resources: &mut OutboundResources,
        outbound: &Outbound,
        hosts: &BTreeSet<eastwest_model::Host>,
    ) {
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
        let clusters = self.inbound_clusters(&settings.inbound, facts);
        let mut listeners = lds::inbound_listeners(&mut self.cache, &settings.inbound, facts);
        listeners.push(self.cache.get(&lds::OutboundInputs::new(&settings.outbound, facts.outbound_port)));
        // Envoy refuses a second listener of the same address.
        let taken = [facts.inbound_port, facts.outbound_port].map(names::any_address_listener);
        let mut sets = vec![
            self.join(&outbound.clusters, &[], clusters, before),
            Arc::clone(&outbound.endpoints),
            self.join(&outbound.listeners, &taken, listeners, before),
            Arc::clone(&outbound.routes),
            if facts.proven {
                Arc::clone(&outbound.secrets)
            } else {
                following(before, TypeUrl::SECRET, Vec::new())
            },
        ];
        if facts.audience == Audience::Other {
            let own = Arc::new(workload::encode(settings, outbound.settings()));
            sets.push(following(before, TypeUrl::WORKLOAD_TLS, vec![own]));
        }
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

    fn inbound_clusters(&mut self, inbound: &Inbound, facts: ProxyFacts) -> Vec<Arc<EncodedResource>> {
        let listed = inbound.ports.iter().filter(|(_, port)| port.listed.is_some());
        let names = listed.map(|(number, _)| names::inbound_cluster(*number));
        let names = names.chain([INBOUND_PASSTHROUGH_CLUSTER.to_owned()]);
        let mut clusters: Vec<_> =
            names.map(|name| self.cache.get(&OriginalDestination { name, inbound: true })).collect();
        if facts.internal_listeners {
            let internal = [names::INBOUND_INSPECTED, names::INBOUND_PLAINTEXT];
            clusters.extend(internal.map(|name| self.cache.get(&Internal { name })));
        }
        clusters
    }

    /// The shared resources without those that clash with the workload's own, and these. Workloads with equal ones get
    /// the same set, made once.
    fn join(
        &mut self,
        shared: &ResourceSet,
        taken: &[String],
        own: Vec<Arc<EncodedResource>>,
        before: Option<&Arc<View>>,
    ) -> Arc<ResourceSet> {
        let type_url = shared.type_url().clone();
        let own = ResourceSet::new(type_url.clone(), own);
        let key = (type_url.clone(), shared.version(), own.version());
        if let Some(set) = self.joined.get(&key) {
            return Arc::clone(set);
        }
        let free = |name: &str| taken.iter().all(|other| other != name);
        let set = self.joined_step(shared, &own, free).unwrap_or_else(|| {
            let shared = shared.iter().filter(|one| free(one.name()));
            following(before, type_url, shared.chain(own.iter()).cloned().collect())
        });
        self.joined.insert(key, Arc::clone(&set));
        set
    }

    /// The joined set of what was shared before, followed by the step since then.
    fn joined_step(
        &self,
        shared: &ResourceSet,
        own: &ResourceSet,
        free: impl Fn(&str) -> bool,
    ) -> Option<Arc<ResourceSet>> {
        let (from, names) = shared.step()?;
        let earlier = self.joined.get(&(shared.type_url().clone(), from, own.version()))?;
        let names = names.iter().filter(|name| free(name) && own.get(name).is_none());
        Some(earlier.edited(names.map(|name| (Arc::clone(name), shared.get(name).cloned()))))
    }
}

/// The set that follows the one of a view.
fn following(
    before: Option<&Arc<View>>,
    type_url: TypeUrl,
    resources: Vec<Arc<EncodedResource>>,
) -> Arc<ResourceSet> {
    let before = before.and_then(|view| view.get(&type_url));
    succeed(type_url, before, resources)
}
