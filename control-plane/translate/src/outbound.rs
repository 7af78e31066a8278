//! What all proxies of one client scope share.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use eastwest_engine::settings::{Discovery, Outbound, OutboundService};
use eastwest_model::Host;
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl};

use crate::{
    cds::{BlackHole, OriginalDestination, OutboundInputs},
    eds::{self, AssignmentInputs},
    lds::listeners,
    names::PASSTHROUGH_CLUSTER,
    rds,
    resource::Cache,
    workload,
};

/// The resources that come from outbound settings.
#[derive(Debug)]
pub struct OutboundResources {
    hosts: BTreeMap<Host, HostResources>,
    pub(crate) clusters: Arc<ResourceSet>,
    pub(crate) endpoints: Arc<ResourceSet>,
    pub(crate) listeners: Arc<ResourceSet>,
    pub(crate) routes: Arc<ResourceSet>,
    /// See [`OutboundResources::settings`].
    settings: OnceLock<Vec<u8>>,
}

/// The resources of one host, kept as long as its settings are the same object.
#[derive(Debug, Clone)]
struct HostResources {
    of: Arc<OutboundService>,
    clusters: Vec<Arc<EncodedResource>>,
    assignments: Vec<Arc<EncodedResource>>,
}

impl OutboundResources {
    pub(crate) fn new(cache: &mut Cache, outbound: &Outbound, before: Option<&Self>) -> Self {
        let known = |service| before.and_then(|before| before.host(service));
        let hosts: BTreeMap<_, _> = outbound
            .services
            .values()
            .map(|service| {
                let resources = known(service).unwrap_or_else(|| HostResources::new(cache, service));
                (service.host.clone(), resources)
            })
            .collect();
        let everywhere = [
            cache.get(&OriginalDestination { name: PASSTHROUGH_CLUSTER.to_owned(), inbound: false }),
            cache.get(&BlackHole),
        ];
        let clusters = hosts.values().flat_map(|host| &host.clusters).cloned().chain(everywhere).collect();
        let assignments = hosts.values().flat_map(|host| &host.assignments).cloned().collect();
        let all_listeners = listeners(outbound).iter().map(|inputs| cache.get(inputs)).collect();
        let routes = rds::routes(outbound).iter().map(|inputs| cache.get(inputs)).collect();
        Self {
            hosts,
            clusters: succeed(TypeUrl::CLUSTER, before.map(|before| &before.clusters), clusters),
            endpoints: succeed(TypeUrl::ENDPOINT, before.map(|before| &before.endpoints), assignments),
            listeners: succeed(TypeUrl::LISTENER, before.map(|before| &before.listeners), all_listeners),
            routes: succeed(TypeUrl::ROUTE, before.map(|before| &before.routes), routes),
            settings: OnceLock::new(),
        }
    }

    /// The outbound part of [`TypeUrl::WORKLOAD_TLS`], encoded when the first proxy wants it.
    pub(crate) fn settings(&self) -> &[u8] {
        self.settings.get_or_init(|| workload::encode_outbound(self.hosts.values().map(|host| &host.of)))
    }

    /// The resources of a host, if its settings are still the same.
    fn host(&self, service: &Arc<OutboundService>) -> Option<HostResources> {
        self.hosts.get(&service.host).filter(|known| Arc::ptr_eq(&known.of, service)).cloned()
    }
}

impl HostResources {
    fn new(cache: &mut Cache, service: &Arc<OutboundService>) -> Self {
        let by_eds = service.clusters.iter().filter(|cluster| cluster.discovery == Discovery::Eds);
        Self {
            of: Arc::clone(service),
            assignments: by_eds.map(|cluster| cache.get(&AssignmentInputs::new(cluster))).collect(),
            clusters: service
                .clusters
                .iter()
                .map(|cluster| cache.get(&OutboundInputs::new(cluster)))
                .collect(),
        }
    }
}

/// The set that follows `before`; the same `Arc` if nothing differs.
pub(crate) fn succeed(
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
