//! Views that were kept up to date change by change are those that would be made anew.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::{DirtySet, Index, Snapshot};
use eastwest_model::{Change, Object, Workload, policy::Tunnel};
use eastwest_testing::{self as worlds, Random, change};
use eastwest_translate::{Audience, Fleet, ProxyFacts, ProxyKey, ProxyRole};
use eastwest_xds::{TypeUrl, Version, View};

const SEEDS: u64 = 30;
const FACTS: [Audience; 2] = [Audience::Envoy, Audience::Other];

/// Version and names of every set.
fn visible(view: &View) -> Vec<(TypeUrl, Version, Vec<String>)> {
    let names = |set: &Arc<eastwest_xds::ResourceSet>| set.iter().map(|one| one.name().to_string()).collect();
    view.iter().map(|set| (set.type_url().clone(), set.version(), names(set))).collect()
}

/// The view of a proxy that asks for everything.
fn connect(fleet: &mut Fleet, world: &Snapshot, workload: &Arc<Workload>, key: &ProxyKey) -> Arc<View> {
    let view = fleet.connect(world, workload, key.clone()).unwrap();
    fleet.add_settings(world, key).unwrap_or(view)
}

/// The connected proxies with their latest views.
#[derive(Default)]
struct Connected {
    fleet: Fleet,
    views: BTreeMap<Arc<ProxyKey>, (Arc<Workload>, Arc<View>)>,
}

impl Connected {
    fn connect_all(&mut self, world: &Snapshot) {
        // Of a Pod and a WorkloadEntry of one name, the Pod.
        let known = world.workloads().filter_map(|one| world.workload(&one.key()));
        for workload in known {
            for audience in FACTS {
                let key = ProxyKey::of(workload, ProxyRole::Sidecar, ProxyFacts::usual(audience));
                let view = connect(&mut self.fleet, world, workload, &key);
                self.views.entry(key.into()).or_insert_with(|| (Arc::clone(workload), view));
            }
        }
    }

    fn disconnect_not_entitled(&mut self, world: &Snapshot, dirty: &DirtySet) {
        for key in self.fleet.not_entitled(world, dirty) {
            self.fleet.disconnect(&key);
            self.views.remove(&key);
        }
    }
}

#[test]
fn views_kept_up_to_date_equal_those_made_anew() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut objects = BTreeMap::new();
        let mut index = Index::new(worlds::defaults());
        let mut connected = Connected::default();
        for step in 0..60 {
            let change = change(&mut random, &mut objects);
            let what = format!("seed {seed}, step {step}: {change:?}");
            let dirty = index.apply(change);
            let world = index.freeze();
            connected.disconnect_not_entitled(&world, &dirty);
            for (key, view) in connected.fleet.update(&world, &dirty) {
                connected.views.get_mut(&key).unwrap().1 = view;
            }
            let mut anew = Fleet::default();
            for (key, (stand_in, kept)) in &connected.views {
                let workload = world.workload(&key.workload).unwrap_or(stand_in);
                let view = connect(&mut anew, &world, workload, &ProxyKey::of(workload, key.role, key.facts));
                assert_eq!(visible(kept), visible(&view), "{what}\n{key:?}");
            }
            if step % 10 == 0 {
                connected.connect_all(&world);
            }
        }
    }
}

/// Settings keep the whole traffic policy, and resources are made from a part of it.
#[test]
fn blocks_that_no_resource_is_made_from_update_no_proxy() {
    let mut changes = 0;
    for seed in 0..2 * SEEDS {
        let mut random = Random::new(seed);
        let mut objects = BTreeMap::new();
        let mut index = Index::new(worlds::defaults());
        for _ in 0..60 {
            index.apply(change(&mut random, &mut objects));
        }
        let mut connected = Connected::default();
        connected.connect_all(&index.freeze());
        for object in objects.into_values() {
            let Object::DestinationRule(rule) = object else { continue };
            let mut changed = (*rule).clone();
            let Some(policy) = &mut changed.traffic_policy else { continue };
            let target_host = "far.example".into();
            policy.tunnel = Some(Arc::new(Tunnel { protocol: None, target_host, target_port: 443 }));
            let dirty = index.apply(Change::Upsert(changed.into()));
            // A rule that covers no host decides nothing.
            if dirty.is_empty() {
                continue;
            }
            let updated = connected.fleet.update(&index.freeze(), &dirty);
            assert!(updated.is_empty(), "seed {seed}: {rule:?}");
            changes += 1;
        }
    }
    assert!(changes > 50, "{changes}");
}
