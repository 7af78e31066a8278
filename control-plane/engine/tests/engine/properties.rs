//! What must hold for every world and every history: the order of objects never matters, an index that was kept up to
//! date equals a fresh one, a dirty set never misses what changed, and strangers never matter.

use std::collections::BTreeMap;

use eastwest_engine::{ClientScope, Index, Snapshot, compute, lint, report::TlsReport, report::tls_report};
use eastwest_model::{Change, Host, MeshConfig, Object, ObjectRef, TrustDomain, WorkloadKey};

use super::worlds::{self, Random};
use eastwest_engine::settings::{Inbound, OutboundService};

const SEEDS: u64 = 60;

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "root")
}

fn index_of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Index {
    let mut index = Index::new(defaults());
    for object in objects {
        index.apply(Change::Upsert(object.clone()));
    }
    index
}

/// Everything that anybody can see of a world.
fn visible(snapshot: &Snapshot) -> (Vec<TlsReport>, Vec<eastwest_model::Diagnostic>) {
    let reports = snapshot.workloads().filter_map(|one| tls_report(snapshot, &one.key()));
    (reports.collect(), lint::diagnostics(snapshot))
}

/// The world with the last state of each object.
fn world(random: &mut Random) -> BTreeMap<ObjectRef, Object> {
    let objects = (0..40).map(|_| worlds::object(random));
    objects.map(|object| (object.reference().clone(), object)).collect()
}

#[test]
fn the_order_of_objects_never_matters() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut objects: Vec<Object> = world(&mut random).into_values().collect();
        let expected = visible(&index_of(&objects).freeze());
        for _ in 0..3 {
            random.shuffle(&mut objects);
            assert_eq!(visible(&index_of(&objects).freeze()), expected, "seed {seed}");
        }
    }
}

#[test]
fn an_index_kept_up_to_date_equals_a_fresh_one() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut objects: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        let mut index = Index::new(defaults());
        let mut frozen = Vec::new();
        for step in 0..120 {
            index.apply(change(&mut random, &mut objects));
            if step % 40 == 0 {
                let snapshot = index.freeze();
                frozen.push((visible(&snapshot), snapshot));
            }
        }
        let fresh = index_of(objects.values());
        assert_eq!(visible(&index.freeze()), visible(&fresh.freeze()), "seed {seed}");
        for (then, snapshot) in frozen {
            assert_eq!(visible(&snapshot), then, "seed {seed}: a snapshot changed after it was frozen");
        }
    }
}

/// One step: an object comes, changes or goes.
fn change(random: &mut Random, objects: &mut BTreeMap<ObjectRef, Object>) -> Change {
    if random.below(4) == 0 && !objects.is_empty() {
        let at = random.below(objects.len());
        let name = objects.keys().nth(at).unwrap().clone();
        objects.remove(&name);
        return Change::Delete(name);
    }
    let object = worlds::object(random);
    objects.insert(object.reference().clone(), object.clone());
    Change::Upsert(object)
}

/// The settings of a world, as fine as a dirty set speaks of them.
struct Settings {
    inbound: BTreeMap<WorkloadKey, Inbound>,
    scopes: BTreeMap<WorkloadKey, ClientScope>,
    outbound: BTreeMap<(ClientScope, Host), OutboundService>,
}

impl Settings {
    fn of(snapshot: &Snapshot) -> Self {
        let first = |one: &WorkloadKey| snapshot.workload(one).unwrap().clone();
        let keys: Vec<WorkloadKey> = snapshot.workloads().map(|one| one.key()).collect();
        let scopes: BTreeMap<_, _> =
            keys.iter().map(|key| (key.clone(), compute::client_scope(snapshot, &first(key)))).collect();
        let mut outbound = BTreeMap::new();
        for scope in scopes.values() {
            for host in snapshot.hosts() {
                if let Some(service) = compute::outbound_service(snapshot, scope, host) {
                    outbound.insert((scope.clone(), host.clone()), service);
                }
            }
        }
        Self {
            inbound: keys.iter().map(|key| (key.clone(), compute::inbound(snapshot, &first(key)))).collect(),
            scopes,
            outbound,
        }
    }
}

#[test]
fn a_dirty_set_never_misses_what_changed() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut objects = BTreeMap::new();
        let mut index = Index::new(defaults());
        let mut before = Settings::of(&index.freeze());
        for step in 0..100 {
            let change = change(&mut random, &mut objects);
            let what = format!("seed {seed}, step {step}: {change:?}");
            let dirty = index.apply(change);
            let after = Settings::of(&index.freeze());
            for key in before.inbound.keys().chain(after.inbound.keys()) {
                let same = before.inbound.get(key) == after.inbound.get(key);
                assert!(same || dirty.inbound_of(key), "{what}\ninbound of {key}");
            }
            for key in before.scopes.keys().chain(after.scopes.keys()) {
                let same = before.scopes.get(key) == after.scopes.get(key);
                assert!(same || (dirty.scope_of(key) && dirty.scopes_changed()), "{what}\nscope of {key}");
            }
            for key in before.outbound.keys().chain(after.outbound.keys()) {
                let (scope, host) = key;
                let lives = |settings: &Settings| settings.scopes.values().any(|one| one == scope);
                if !lives(&before) || !lives(&after) {
                    continue;
                }
                let same = before.outbound.get(key) == after.outbound.get(key);
                let named =
                    dirty.outbound_hosts_of(scope).contains(host) && dirty.outbound_hosts().contains(host);
                assert!(same || named, "{what}\n{host} for {scope:?}");
            }
            before = after;
        }
    }
}

#[test]
fn strangers_never_matter() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let objects = world(&mut random);
        let mut index = index_of(objects.values());
        let before = reports(&index.freeze());
        for _ in 0..10 {
            let stranger = worlds::stranger(&mut random);
            let what = format!("seed {seed}: {stranger:?}");
            index.apply(Change::Upsert(stranger));
            assert_eq!(reports(&index.freeze()), before, "{what}");
        }
    }
}

/// The settings of the world's own workloads, without what strangers offer.
fn reports(snapshot: &Snapshot) -> Vec<TlsReport> {
    let own = snapshot.workloads().filter(|one| &**one.meta.namespace() != worlds::STRANGE);
    let mut reports: Vec<TlsReport> = own.filter_map(|one| tls_report(snapshot, &one.key())).collect();
    for report in &mut reports {
        report.outbound.retain(|entry| !entry.host.contains(worlds::STRANGE));
        report.warnings.clear();
    }
    reports
}
