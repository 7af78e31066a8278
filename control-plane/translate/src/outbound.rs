//! What all proxies of one client scope share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use eastwest_engine::settings::{Discovery, Outbound, OutboundService};
use eastwest_model::Host;
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl};

use crate::{
    resource::{Cache, Generator, Key, key},
    sidecar::{
        cds::{BlackHole, OriginalDestination, OutboundInputs},
        eds::{self, AssignmentInputs},
        lds::listeners,
        names::PASSTHROUGH_CLUSTER,
        rds,
        sds::SecretInputs,
    },
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
    pub(crate) secrets: Arc<ResourceSet>,
    /// See [`OutboundResources::settings`].
    settings: OnceLock<Vec<u8>>,
}

/// The resources of one host, kept as long as its settings are the same object.
#[derive(Debug, Clone)]
struct HostResources {
    of: Arc<OutboundService>,
    clusters: Vec<Arc<EncodedResource>>,
    assignments: Vec<Arc<EncodedResource>>,
    secrets: Vec<Arc<EncodedResource>>,
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
        let secrets = secrets(&hosts);
        Self {
            hosts,
            secrets: succeed(TypeUrl::SECRET, before.map(|before| &before.secrets), secrets),
            clusters: succeed(TypeUrl::CLUSTER, before.map(|before| &before.clusters), clusters),
            endpoints: succeed(TypeUrl::ENDPOINT, before.map(|before| &before.endpoints), assignments),
            listeners: succeed(TypeUrl::LISTENER, before.map(|before| &before.listeners), all_listeners),
            routes: succeed(TypeUrl::ROUTE, before.map(|before| &before.routes), routes),
            settings: OnceLock::new(),
        }
    }

    /// Follows changes of some hosts. Only listeners and routes to which a host contributes something else than before
    /// are looked at: most changes are about endpoints and TLS.
    pub(crate) fn renew(&mut self, cache: &mut Cache, outbound: &Outbound, hosts: &BTreeSet<Host>) {
        let (mut clusters, mut assignments) = (BTreeMap::new(), BTreeMap::new());
        let (mut on_listeners, mut on_routes) = (BTreeSet::new(), BTreeSet::new());
        let mut on_secrets = false;
        for host in hosts {
            let service = outbound.services.get(host);
            let before = match service {
                Some(service) => self.hosts.insert(host.clone(), HostResources::new(cache, service)),
                None => self.hosts.remove(host),
            };
            let after = self.hosts.get(host);
            on_secrets |= [before.as_ref(), after].into_iter().flatten().any(|one| !one.secrets.is_empty());
            edit(&mut clusters, before.as_ref().map(|one| &one.clusters), after.map(|one| &one.clusters));
            edit(
                &mut assignments,
                before.as_ref().map(|one| &one.assignments),
                after.map(|one| &one.assignments),
            );
            let [before, after] =
                [before.as_ref().map(|one| &one.of), service].map(|one| Reach::of(outbound, one));
            on_listeners.extend(differing(&before.listeners, &after.listeners));
            on_routes.extend(differing(&before.routes, &after.routes));
        }
        self.clusters = self.clusters.edited(clusters);
        self.endpoints = self.endpoints.edited(assignments);
        self.settings = OnceLock::new();
        if on_secrets {
            self.secrets = self.secrets.next(secrets(&self.hosts));
        }
        if !on_listeners.is_empty() {
            let all = listeners(outbound);
            let all = all.iter().map(|inputs| (inputs.name(), inputs));
            self.listeners = self.listeners.edited(named(cache, on_listeners, all));
        }
        if !on_routes.is_empty() {
            let all = rds::routes(outbound);
            let all = all.iter().map(|inputs| (inputs.name(), inputs));
            self.routes = self.routes.edited(named(cache, on_routes, all));
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
        let named = service.clusters.iter().flat_map(|cluster| &cluster.secrets);
        let by_eds = service.clusters.iter().filter(|cluster| cluster.discovery == Discovery::Eds);
        Self {
            of: Arc::clone(service),
            secrets: named.map(|(name, secret)| cache.get(&SecretInputs { name, secret })).collect(),
            assignments: by_eds.map(|cluster| cache.get(&AssignmentInputs::new(cluster))).collect(),
            clusters: service
                .clusters
                .iter()
                .map(|cluster| cache.get(&OutboundInputs::new(cluster)))
                .collect(),
        }
    }
}

/// The secrets of all hosts, each one once: the same name is the same secret to all clients of a scope.
fn secrets(hosts: &BTreeMap<Host, HostResources>) -> Vec<Arc<EncodedResource>> {
    let all = hosts.values().flat_map(|host| &host.secrets);
    let by_name: BTreeMap<_, _> = all.map(|secret| (secret.name(), secret)).collect();
    by_name.into_values().cloned().collect()
}

/// What a host contributes to listeners and routes: the inputs, by name, that would be if it were alone.
#[derive(Default)]
struct Reach {
    listeners: BTreeMap<String, Key>,
    routes: BTreeMap<String, Key>,
}

impl Reach {
    fn of(outbound: &Outbound, service: Option<&Arc<OutboundService>>) -> Self {
        let Some(service) = service else { return Self::default() };
        let alone = Outbound {
            services: [(service.host.clone(), Arc::clone(service))].into(),
            unknown_hosts: outbound.unknown_hosts,
            access_log_file: outbound.access_log_file.clone(),
        };
        Self {
            listeners: listeners(&alone).iter().map(|inputs| (inputs.name(), key(inputs))).collect(),
            routes: rds::routes(&alone).iter().map(|inputs| (inputs.name(), key(inputs))).collect(),
        }
    }
}

/// The names that differ between two maps.
fn differing<'a>(
    before: &'a BTreeMap<String, Key>,
    after: &'a BTreeMap<String, Key>,
) -> impl Iterator<Item = String> + 'a {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned()
}

/// What becomes of the named resources, out of the inputs of all.
fn named<'a, G: Generator + 'a>(
    cache: &mut Cache,
    names: BTreeSet<String>,
    all: impl Iterator<Item = (String, &'a G)>,
) -> BTreeMap<Arc<str>, Option<Arc<EncodedResource>>> {
    let made: Vec<_> = all.filter(|(name, _)| names.contains(name)).collect();
    let gone = names.iter().map(|name| (Arc::from(name.as_str()), None));
    gone.chain(made.into_iter().map(|(name, inputs)| (name.into(), Some(cache.get(inputs))))).collect()
}

/// Notes what becomes of the resources of a host.
fn edit(
    edits: &mut BTreeMap<Arc<str>, Option<Arc<EncodedResource>>>,
    before: Option<&Vec<Arc<EncodedResource>>>,
    after: Option<&Vec<Arc<EncodedResource>>>,
) {
    edits.extend(before.into_iter().flatten().map(|one| (Arc::clone(one.name()), None)));
    edits.extend(after.into_iter().flatten().map(|one| (Arc::clone(one.name()), Some(Arc::clone(one)))));
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
