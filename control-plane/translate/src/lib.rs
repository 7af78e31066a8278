//! Settings to Envoy resources and to our own types, one generator a type.
//!
//! Everything that stock Envoy is sent is made here, and nothing that it does not know. A generator is a value with
//! the inputs of one resource; [`Translator`] keeps what was generated, so that equal inputs give the same bytes,
//! encoded once and shared by every proxy.

mod cds;
mod eds;
mod lds;
pub mod names;
mod rds;
mod resource;
mod tls_context;
mod workload;

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::settings::{Discovery, Inbound, Outbound, WorkloadTls};
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, View};

use cds::OriginalDestination;
use names::{INBOUND_PASSTHROUGH_CLUSTER, PASSTHROUGH_CLUSTER};
use resource::Cache;

/// What all proxies of one client scope share.
#[derive(Debug)]
pub struct OutboundResources {
    clusters: Vec<Arc<EncodedResource>>,
    listeners: Vec<Arc<EncodedResource>>,
    endpoints: Arc<ResourceSet>,
    routes: Arc<ResourceSet>,
    /// The outbound part of [`TypeUrl::WORKLOAD_TLS`].
    settings: Vec<u8>,
}

/// Turns settings into resources, each encoded once.
#[derive(Debug, Default)]
pub struct Translator {
    cache: Cache,
}

impl Translator {
    /// The resources of a client scope. `before`: what they were, so that sets that stay the same stay shared.
    pub fn outbound(&mut self, outbound: &Outbound, before: Option<&OutboundResources>) -> OutboundResources {
        let clusters = || outbound.services.values().flat_map(|service| &service.clusters);
        let endpoints: Vec<_> = clusters()
            .filter(|cluster| cluster.discovery == Discovery::Eds)
            .map(|cluster| self.cache.get(&eds::AssignmentInputs::new(cluster)))
            .collect();
        let routes: Vec<_> = routes(outbound).iter().map(|inputs| self.cache.get(inputs)).collect();
        let catch_all = lds::VirtualOutbound {
            unknown_hosts: outbound.unknown_hosts,
            access_log_file: outbound.access_log_file.as_ref(),
        };
        let mut listeners: Vec<_> =
            lds::listeners(outbound).iter().map(|inputs| self.cache.get(inputs)).collect();
        listeners.push(self.cache.get(&catch_all));
        OutboundResources {
            clusters: self.clusters(outbound),
            listeners,
            endpoints: succeed(TypeUrl::ENDPOINT, before.map(|before| &before.endpoints), endpoints),
            routes: succeed(TypeUrl::ROUTE, before.map(|before| &before.routes), routes),
            settings: workload::encode_outbound(outbound),
        }
    }

    /// What one proxy is entitled to see. `before`: its view until now; the same `Arc` if nothing differs.
    pub fn view(
        &mut self,
        settings: &WorkloadTls,
        outbound: &OutboundResources,
        before: Option<&Arc<View>>,
    ) -> Arc<View> {
        let mut clusters = outbound.clusters.clone();
        clusters.extend(self.inbound_clusters(&settings.inbound));
        let mut listeners = outbound.listeners.clone();
        listeners.push(self.cache.get(&lds::InboundInputs::new(&settings.inbound)));
        let own = vec![Arc::new(workload::encode(settings, &outbound.settings))];
        let set = |type_url: TypeUrl, resources| {
            let before = before.and_then(|view| view.get(&type_url));
            succeed(type_url, before, resources)
        };
        let sets = [
            set(TypeUrl::CLUSTER, clusters),
            Arc::clone(&outbound.endpoints),
            set(TypeUrl::LISTENER, listeners),
            Arc::clone(&outbound.routes),
            set(TypeUrl::SECRET, Vec::new()),
            set(TypeUrl::WORKLOAD_TLS, own),
        ];
        match before {
            Some(before) => before.next(sets),
            None => Arc::new(View::new(sets)),
        }
    }

    /// Drops resources that no view holds any more.
    pub fn forget_unused(&mut self) {
        self.cache.forget_unused();
    }

    fn clusters(&mut self, outbound: &Outbound) -> Vec<Arc<EncodedResource>> {
        let services = outbound.services.values().flat_map(|service| &service.clusters);
        let mut clusters: Vec<_> =
            services.map(|cluster| self.cache.get(&cds::OutboundInputs::new(cluster))).collect();
        let passthrough = OriginalDestination { name: PASSTHROUGH_CLUSTER.to_owned(), inbound: false };
        clusters.push(self.cache.get(&passthrough));
        clusters.push(self.cache.get(&cds::BlackHole));
        clusters
    }

    fn inbound_clusters(&mut self, inbound: &Inbound) -> Vec<Arc<EncodedResource>> {
        let listed = inbound.ports.iter().filter(|(_, port)| port.listed.is_some());
        let names = listed.map(|(number, _)| names::inbound_cluster(*number));
        let names = names.chain([INBOUND_PASSTHROUGH_CLUSTER.to_owned()]);
        names.map(|name| self.cache.get(&OriginalDestination { name, inbound: true })).collect()
    }
}

/// The routes of every port that an HTTP service has.
fn routes(outbound: &Outbound) -> Vec<rds::RouteInputs> {
    let mut ports: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for service in outbound.services.values() {
        let http = service.clusters.iter().filter(|cluster| cluster.port.protocol.is_http());
        for cluster in http.filter(|cluster| cluster.subset.is_none()) {
            ports.entry(cluster.port.number).or_default().push((service.as_ref(), cluster.name()));
        }
    }
    let routes = |(port, services): (u16, Vec<_>)| {
        rds::RouteInputs::new(port, services.into_iter(), outbound.unknown_hosts)
    };
    ports.into_iter().map(routes).collect()
}

/// The set that follows `before`; the same `Arc` if nothing differs.
fn succeed(
    type_url: TypeUrl,
    before: Option<&Arc<ResourceSet>>,
    resources: Vec<Arc<EncodedResource>>,
) -> Arc<ResourceSet> {
    if let Some(before) = before {
        return before.next(resources);
    }
    let set = ResourceSet::new(type_url.clone(), resources);
    Arc::new(if type_url == TypeUrl::ENDPOINT { set.answering_absent(eds::empty) } else { set })
}
