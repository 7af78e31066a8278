//! Listeners, routes and secrets to which several hosts contribute: kept up to date host by host, they are those that
//! would be made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    Index, Snapshot, compute,
    settings::{Outbound, WorkloadTls},
};
use eastwest_model::Change;
use eastwest_proto::envoy::config::route::v3::RouteConfiguration;
use eastwest_testing::{self as worlds, Random};
use eastwest_translate::{Audience, OutboundResources, ProxyFacts, ProxyRole, Translator};
use eastwest_xds::{TypeUrl, Version};

use crate::world::decode;

const SEEDS: u64 = 150;

/// Applies random objects.
fn grow(index: &mut Index, random: &mut Random, objects: usize) {
    for _ in 0..objects {
        index.apply(Change::Upsert(worlds::object(random)));
    }
}

/// Every resource of a view by type and name.
type Visible = BTreeMap<(TypeUrl, String), Version>;

struct Client {
    settings: WorkloadTls,
    /// How many of the route configurations seen so far had routes of several hosts.
    shared: usize,
}

impl Client {
    fn visible(
        &mut self,
        translator: &mut Translator,
        resources: &OutboundResources,
        outbound: &Outbound,
    ) -> Visible {
        let settings = WorkloadTls { outbound: Arc::new(outbound.clone()), ..self.settings.clone() };
        let view = translator.view(&settings, resources, ProxyFacts::usual(Audience::Other), None);
        // One virtual host is that of unknown hosts.
        let of_several = |routes: &RouteConfiguration| routes.virtual_hosts.len() > 2;
        let routes: Vec<RouteConfiguration> = decode(&view, &TypeUrl::ROUTE);
        self.shared += routes.into_iter().filter(of_several).count();
        let resources = view.iter().flat_map(|set| set.iter());
        resources.map(|one| ((one.type_url().clone(), one.name().to_string()), one.version())).collect()
    }
}

/// The outbound settings of one client in two worlds.
fn settings(before: &Snapshot, after: &Snapshot) -> Option<(WorkloadTls, Outbound)> {
    let workload = before.workloads().next()?;
    let settings = compute::workload_tls(before, &workload.key())?;
    let after = compute::outbound(after, &compute::client_scope(before, workload));
    Some((settings, after))
}

#[test]
fn resources_renewed_host_by_host_equal_those_made_anew() {
    let (mut steps, mut shared) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut index = Index::new(worlds::defaults());
        grow(&mut index, &mut random, 40);
        let before = index.freeze();
        grow(&mut index, &mut random, 20);
        let Some((settings, after)) = settings(&before, &index.freeze()) else { continue };
        let mut outbound = settings.outbound.as_ref().clone();
        let mut client = Client { settings, shared: 0 };
        let mut translator = Translator::default();
        let mut kept = translator.outbound(ProxyRole::Sidecar, &outbound, None);
        let hosts: BTreeSet<_> = outbound.services.keys().chain(after.services.keys()).cloned().collect();
        let mut hosts: Vec<_> = hosts
            .into_iter()
            .filter(|host| outbound.services.get(host) != after.services.get(host))
            .collect();
        random.shuffle(&mut hosts);
        while !hosts.is_empty() {
            let few = hosts.split_off(hosts.len() - (1 + random.below(2)).min(hosts.len()));
            let few: BTreeSet<_> = few.into_iter().collect();
            for host in &few {
                match after.services.get(host) {
                    Some(service) => outbound.services.insert(host.clone(), Arc::clone(service)),
                    None => outbound.services.remove(host),
                };
            }
            translator.renew(&mut kept, &outbound, &few);
            let mut anew = Translator::default();
            let made = anew.outbound(ProxyRole::Sidecar, &outbound, None);
            let found = client.visible(&mut translator, &kept, &outbound);
            assert_eq!(found, client.visible(&mut anew, &made, &outbound), "seed {seed}, {few:?}");
            steps += 1;
        }
        shared += client.shared;
    }
    assert!(steps > 200 && shared > 100, "{steps} steps, {shared} route configurations of several hosts");
}
