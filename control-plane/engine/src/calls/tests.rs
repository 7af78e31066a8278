//! The quick way to the target of a cluster is the same as the one by its name.

use std::collections::BTreeSet;

use eastwest_model::Change;
use eastwest_testing::{self as worlds, Random};

use super::Caller;
use crate::{Index, compute};

#[test]
fn the_target_of_a_cluster_is_what_its_name_and_port_mean() {
    let mut compared = 0;
    for seed in 0..80 {
        let mut random = Random::new(seed);
        let mut index = Index::new(worlds::defaults());
        for object in worlds::world(&mut random, 60).into_values() {
            index.apply(Change::Upsert(object));
        }
        let snapshot = index.freeze();
        let scopes: BTreeSet<_> =
            snapshot.workloads().map(|workload| compute::client_scope(&snapshot, workload)).collect();
        for scope in scopes {
            let outbound = compute::outbound(&snapshot, &scope);
            let caller = Caller::new(&snapshot, &scope, &outbound);
            for cluster in outbound.services.values().flat_map(|service| service.whole()) {
                let Some(quick) = caller.own_target(cluster) else { continue };
                let by_name = caller.target(cluster.host.as_str(), cluster.port.number);
                assert_eq!(Ok(quick), by_name, "seed {seed}: {}", cluster.name());
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared} are too few to prove anything");
}
