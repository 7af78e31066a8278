//! Calls are resolved as the rendered resources say, in small random worlds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use eastwest_engine::{
    Index, Snapshot, compute,
    listeners::{Call, FirstBytes, Listeners, Reached},
    settings::Outbound,
};
use eastwest_model::Change;
use eastwest_testing::{self as worlds, Random};

use crate::{wire, world::Resources};

const SEEDS: u64 = 100;

/// Names and addresses that may be asked for in a world, whether or not something has them.
fn questions(outbound: &Outbound) -> (Vec<Option<IpAddr>>, Vec<String>) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let ipv4 = (0..6).map(|last| IpAddr::from([10, 0, 0, last]));
    let ipv6 = (0..4).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]));
    let mut addresses: BTreeSet<IpAddr> = ipv4.chain(ipv6).collect();
    for service in outbound.services.values() {
        addresses.extend(&service.addresses);
        for name in [service.host.as_str()].into_iter().chain(service.aliases.iter().map(AsRef::as_ref)) {
            // A wildcard's instance, and a pod's name.
            let instance =
                name.strip_prefix('*').map_or_else(|| name.to_owned(), |suffix| format!("a{suffix}"));
            names.extend([
                format!("y.{instance}"),
                format!("{instance}:80"),
                instance.to_uppercase(),
                instance,
            ]);
        }
    }
    names.extend(
        ["unknown.example.net", "x", "x.a", "y.example.org", "10.0.0.3", "10.0.0.3:8080", "[fd00::3]"]
            .map(Into::into),
    );
    let outside = ["192.0.2.9", "203.0.113.9", "2001:db8::9"].map(|one| Some(one.parse().unwrap()));
    (addresses.into_iter().map(Some).chain(outside).chain([None]).collect(), names.into_iter().collect())
}

fn calls(outbound: &Outbound) -> Vec<Call> {
    let (addresses, names) = questions(outbound);
    let mut all = Vec::new();
    for address in addresses {
        for port in [80, 8080, 81] {
            let nameless = [FirstBytes::Other, FirstBytes::Tls { server_name: None }];
            let named = names.iter().flat_map(|name| {
                let tls = FirstBytes::Tls { server_name: Some(name.clone()) };
                [FirstBytes::Http { authority: name.clone() }, tls]
            });
            all.extend(nameless.into_iter().chain(named).map(|first_bytes| Call {
                address,
                port,
                first_bytes,
            }));
        }
    }
    all
}

fn kind(to: &Reached<'_>) -> String {
    match to {
        Reached::Cluster(cluster) => format!("{:?} {:?}", cluster.discovery, cluster.port.protocol),
        other => format!("{other:?}"),
    }
}

fn world(seed: u64) -> std::sync::Arc<Snapshot> {
    let mut random = Random::new(seed);
    let mut index = Index::new(worlds::defaults());
    for object in worlds::world(&mut random, 60).into_values() {
        index.apply(Change::Upsert(object));
    }
    index.freeze()
}

#[test]
fn a_call_is_resolved_as_the_rendered_resources_route_it() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    for seed in 0..SEEDS {
        let world = world(seed);
        let mut scopes = BTreeSet::new();
        for workload in world.workloads() {
            if !scopes.insert(compute::client_scope(&world, workload)) {
                continue;
            }
            let Some(settings) = compute::workload_tls(&world, &workload.key()) else { continue };
            let resources = Resources::from_settings(&settings);
            let listeners = Listeners::of(&settings.outbound);
            for call in calls(&settings.outbound) {
                let resolved = listeners.resolve(&call);
                let found = match resolved.to {
                    Reached::Answered(status) => status.to_string(),
                    to => to.cluster_name(),
                };
                assert_eq!(
                    found,
                    wire::reached(&resources, &call),
                    "seed {seed}, {}: {call:?}",
                    workload.key()
                );
                let listener = resources.listener(&resolved.listener);
                assert!(listener.is_some(), "seed {seed}: there is no listener {}", resolved.listener);
                *seen.entry(kind(&resolved.to)).or_default() += 1;
                total += 1;
            }
        }
    }
    println!("{total} calls: {seen:?}");
    for kind in [
        "Passthrough",
        "BlackHole",
        "Answered(502)",
        "Eds Http",
        "Eds Tls",
        "Eds Undeclared",
        "OriginalDst Tcp",
        "OriginalDst Http",
        "StrictDns Tcp",
        "LogicalDns Http",
        "DynamicForwardProxy Http",
        "DynamicForwardProxy Tls",
    ] {
        let count = seen.get(kind).copied().unwrap_or_default();
        assert!(count >= 20, "{kind} is too rare to prove anything: {seen:?}");
    }
}
