//! Listeners.

mod filters;
mod inbound;
mod outbound;
mod service;

use std::sync::Arc;

use eastwest_engine::{
    listeners::{self, ListenerKey, ListenerPart},
    settings::{Outbound, OutboundService, WorkloadTls},
};
use eastwest_model::Families;
use eastwest_xds::{EncodedResource, TypeUrl};

use self::{outbound::VirtualOutbound, service::ServiceListener};
use crate::{
    facts::ProxyFacts,
    joint::{HostIndex, JointResources, JointType},
    origins::{self, Source},
    resource::Cache,
    sidecar::names,
    type_builder::{Access, ProxyInputs, TypeBuilder},
};

/// Listeners.
#[derive(Debug)]
pub(crate) struct Listeners;

impl TypeBuilder for Listeners {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::LISTENER
    }

    fn sources(&self, settings: &WorkloadTls, name: &str) -> Vec<Source> {
        if [names::VIRTUAL_INBOUND, names::INBOUND_INSPECTED, names::INBOUND_PLAINTEXT].contains(&name) {
            return origins::of_inbound(settings, None);
        }
        let mut found = Vec::new();
        for service in settings.outbound.services.values() {
            let keys = listeners::parts(service).into_iter().map(|(key, _)| key);
            let ports: Vec<u16> = keys.filter(|key| key.name() == name).map(|key| key.port).collect();
            let clusters = service.whole().filter(|one| ports.contains(&one.port.number));
            found.extend(clusters.flat_map(|one| origins::of_cluster((service, one))));
        }
        found
    }

    fn joint(&self) -> Option<Box<dyn JointResources>> {
        Some(Box::<HostIndex<Self>>::default())
    }

    fn of_proxy(&self, cache: &mut Cache, proxy: &ProxyInputs<'_>) -> Vec<Arc<EncodedResource>> {
        let ProxyInputs { settings, facts, .. } = proxy;
        let mut listeners = inbound::listeners(cache, &settings.inbound, *facts, settings.outbound.families);
        listeners.push(cache.get(&VirtualOutbound::new(&settings.outbound, facts.outbound_port)));
        listeners
    }

    /// Envoy refuses a second listener of the same address.
    fn access(&self, facts: ProxyFacts) -> Access {
        let own = [facts.inbound_port, facts.outbound_port];
        let names = [Families::IPv4, Families::IPv6]
            .map(|families| own.map(|port| ListenerKey::any_address(port, families).name()));
        Access::AllBut(names.concat())
    }
}

impl JointType for Listeners {
    type Key = ListenerKey;
    type Part<'a> = ListenerPart<'a>;

    fn name(key: &ListenerKey) -> String {
        key.name()
    }

    fn parts(service: &OutboundService) -> Vec<(ListenerKey, ListenerPart<'_>)> {
        listeners::parts(service)
    }

    fn resource(
        cache: &mut Cache,
        key: &ListenerKey,
        parts: &[&ListenerPart<'_>],
        outbound: &Outbound,
    ) -> Option<Arc<EncodedResource>> {
        let decided = listeners::Listener::new(*key, parts, outbound.unknown_hosts);
        Some(cache.get(&ServiceListener { decided, access_log_file: outbound.access_log_file.as_ref() }))
    }
}
