//! Servers that accept something else than before.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{Workload, WorkloadKey};

use super::{InboundChange, InboundSetting, survivors};
use crate::{Snapshot, compute, settings::Inbound};

/// The workloads with a proxy, in both snapshots, of which a mode differs. Equal changes stand together.
pub(super) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<InboundChange> {
    let mut found: BTreeMap<_, Vec<WorkloadKey>> = BTreeMap::new();
    let serve = |(old, new): &(&Workload, &Workload)| compute::has_proxy(old) && compute::has_proxy(new);
    for (old, new) in survivors(before, after).filter(serve) {
        for change in changes_of(&compute::inbound(before, old), &compute::inbound(after, new)) {
            found.entry(change).or_default().push(old.key());
        }
    }
    let change = |((port, before, after), mut workloads): (Change, Vec<WorkloadKey>)| {
        workloads.sort();
        InboundChange { workloads, port, before, after }
    };
    let mut found: Vec<_> = found.into_iter().map(change).collect();
    found.sort_by(|a, b| (&a.workloads, a.port).cmp(&(&b.workloads, b.port)));
    found
}

/// The port, and its settings before and after.
type Change = (Option<u16>, InboundSetting, InboundSetting);

/// The change of all ports first, then of those ports that change otherwise.
fn changes_of(old: &Inbound, new: &Inbound) -> Vec<Change> {
    let general = (None, general(old), general(new));
    let differs = |(_, before, after): &Change| before.mode != after.mode;
    let modes = |(_, before, after): &Change| (before.mode, after.mode);
    let ports: BTreeSet<u16> = old.ports.keys().chain(new.ports.keys()).copied().collect();
    let ports = ports.into_iter().map(|port| (Some(port), at(old, port), at(new, port)));
    let own = ports.filter(|change| modes(change) != modes(&general)).collect::<Vec<_>>();
    [general].into_iter().chain(own).filter(differs).collect()
}

fn general(inbound: &Inbound) -> InboundSetting {
    InboundSetting { mode: inbound.mode, policy: inbound.policy.clone() }
}

fn at(inbound: &Inbound, port: u16) -> InboundSetting {
    let own = inbound.ports.get(&port);
    own.map_or_else(|| general(inbound), |own| InboundSetting { mode: own.mode, policy: own.policy.clone() })
}
