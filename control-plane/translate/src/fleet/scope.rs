//! What all proxies of a client scope share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    ClientScope, DirtySet, Hosts, Snapshot, compute, lint::ClientFindings, settings::Outbound,
};

use super::{ProxyKey, services::SharedServices};
use crate::{OutboundResources, ProxyRole, Translator};

/// A client scope in use.
#[derive(Debug)]
pub(super) struct Scope {
    /// The only `Arc` between changes, so that it is edited in place.
    pub(super) outbound: Arc<Outbound>,
    /// For each role of its proxies.
    resources: BTreeMap<ProxyRole, OutboundResources>,
    /// What its clients are warned of, if one of its proxies gets warnings.
    pub(super) findings: Option<ClientFindings>,
    /// Its proxies. A scope without any is forgotten.
    pub(super) proxies: BTreeSet<Arc<ProxyKey>>,
}

/// What became of a scope after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Nothing differs.
    Same,
    /// Some hosts, or what its clients are warned of.
    Hosts,
    /// More than single hosts may differ: what a proxy has of its own is made again as well.
    All,
}

impl Scope {
    /// `beside`: another scope, from which it takes what the clients of both see alike.
    pub(super) fn new(
        (translator, services): (&mut Translator, &mut SharedServices),
        snapshot: &Snapshot,
        scope: &ClientScope,
        beside: Option<(&ClientScope, &Self)>,
    ) -> Self {
        let mut outbound = match beside {
            Some((name, other)) => compute::outbound_beside(snapshot, scope, (name, &other.outbound)),
            None => compute::outbound(snapshot, scope),
        };
        services.share_all(&mut outbound);
        let outbound = Arc::new(outbound);
        let of_other = beside.into_iter().flat_map(|(_, other)| &other.resources);
        let resources =
            of_other.map(|(role, other)| (*role, translator.outbound(*role, &outbound, Some(other))));
        Self { resources: resources.collect(), outbound, findings: None, proxies: BTreeSet::new() }
    }

    /// The resources for proxies of a role, made for the first of them.
    pub(super) fn resources_of(
        &mut self,
        translator: &mut Translator,
        role: ProxyRole,
    ) -> &OutboundResources {
        let Self { outbound, resources, .. } = self;
        resources.entry(role).or_insert_with(|| translator.outbound(role, outbound, None))
    }

    /// Finds what the clients are warned of, for the first proxy that gets warnings.
    pub(super) fn find(&mut self, snapshot: &Snapshot, scope: &ClientScope) {
        let Self { findings, outbound, .. } = self;
        findings.get_or_insert_with(|| ClientFindings::of(snapshot, scope, outbound));
    }

    /// Computes the hosts anew that may differ.
    pub(super) fn renew(
        &mut self,
        (translator, services): (&mut Translator, &mut SharedServices),
        snapshot: &Snapshot,
        scope: &ClientScope,
        dirty: &DirtySet,
    ) -> Renewal {
        let renewal = match dirty.outbound_hosts_of(scope) {
            Hosts::All => self.renew_all(translator, services, snapshot, scope),
            Hosts::Some(hosts) => self.renew_hosts((translator, services), snapshot, scope, hosts),
        };
        // The servers' side may differ where the clients' settings stay the same.
        let Self { findings, outbound, .. } = self;
        let warned = findings
            .as_mut()
            .is_some_and(|found| found.renew(snapshot, scope, outbound, &dirty.warned_hosts_of(scope)));
        if warned && renewal == Renewal::Same { Renewal::Hosts } else { renewal }
    }

    fn renew_hosts(
        &mut self,
        (translator, shared): (&mut Translator, &mut SharedServices),
        snapshot: &Snapshot,
        scope: &ClientScope,
        hosts: &BTreeSet<eastwest_model::Host>,
    ) -> Renewal {
        let mut changed = BTreeSet::new();
        for host in hosts {
            let next = compute::outbound_service(snapshot, scope, host);
            if next.as_ref() == self.outbound.services.get(host).map(AsRef::as_ref) {
                continue;
            }
            changed.insert(host.clone());
            let services = &mut Arc::make_mut(&mut self.outbound).services;
            match next {
                Some(service) => services.insert(host.clone(), shared.share(Arc::new(service))),
                None => services.remove(host),
            };
        }
        if changed.is_empty() {
            return Renewal::Same;
        }
        for resources in self.resources.values_mut() {
            translator.renew(resources, &self.outbound, &changed);
        }
        Renewal::Hosts
    }

    fn renew_all(
        &mut self,
        translator: &mut Translator,
        services: &mut SharedServices,
        snapshot: &Snapshot,
        scope: &ClientScope,
    ) -> Renewal {
        let mut next = compute::outbound(snapshot, scope);
        for (host, service) in &mut next.services {
            // The same object tells the translator that nothing differs.
            if let Some(before) = self.outbound.services.get(host).filter(|before| *before == service) {
                *service = Arc::clone(before);
            }
        }
        if next == *self.outbound {
            return Renewal::Same;
        }
        services.share_all(&mut next);
        self.outbound = Arc::new(next);
        for (role, resources) in &mut self.resources {
            *resources = translator.outbound(*role, &self.outbound, Some(resources));
        }
        Renewal::All
    }
}
