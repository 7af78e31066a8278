//! Two snapshots, before and after a change: which calls change, which would break, and which servers accept something
//! else (`eastwest diff`). The verdicts on both sides are those of [`explain`](crate::explain).

mod calls;
mod inbound;

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Host, Name, ObjectRef, Workload, WorkloadKey, policy::MutualTlsMode, service::Service};
use serde::Serialize;

use crate::{ConnectionOutcome, Snapshot, compute::endpoints, explain::Verdict, settings::Mode};

/// What differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Workloads that are in one of the snapshots alone; changes are listed for all others.
    pub workloads: Membership,
    /// The calls that change, by client.
    pub calls: Vec<CallChanges>,
    /// Servers that accept something else than before, also from callers that use the address of the pod.
    pub inbound: Vec<InboundChange>,
}

/// Workloads that come and go, each list sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// Only there after the change.
    pub added: Vec<WorkloadKey>,
    /// Only there before the change.
    pub removed: Vec<WorkloadKey>,
}

/// The calls that change for the same clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallChanges {
    /// The clients, sorted.
    pub clients: Vec<WorkloadKey>,
    /// What changes for each of them, by host and port.
    pub changes: Vec<CallChange>,
}

/// What changes between a client and one port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CallChange {
    /// The host.
    pub host: Host,
    /// The service port.
    pub port: u16,
    /// Whether connections that work today would not, all of them or some.
    pub breaks: bool,
    /// What becomes of the calls today; `null` if the client does not know the host or the port.
    pub before: Option<Call>,
    /// What would become of them.
    pub after: Option<Call>,
    /// The endpoints of both snapshots for which the outcome differs, by address.
    pub endpoints: Vec<EndpointChange>,
}

/// What becomes of the calls to one port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Call {
    /// The verdict.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    pub reason: String,
    /// The client's setting; `null` without a proxy or for a host that no service knows.
    pub mode: Option<Mode>,
    /// The objects that decided on either side; empty = defaults and inference alone.
    pub decided_by: BTreeSet<ObjectRef>,
}

/// An endpoint for which the outcome differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EndpointChange {
    /// Its address and port.
    pub address: Name,
    /// The workload behind it, if known.
    pub workload: Option<WorkloadKey>,
    /// The outcome today.
    pub before: ConnectionOutcome,
    /// What it would be.
    pub after: ConnectionOutcome,
}

/// Workloads with a proxy that accept something else from their callers, the same change for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundChange {
    /// The workloads, sorted.
    pub workloads: Vec<WorkloadKey>,
    /// The container port; `null` = every port without a setting of its own.
    pub port: Option<u16>,
    /// What they accept today.
    pub before: InboundSetting,
    /// What they would accept.
    pub after: InboundSetting,
}

/// What a server accepts at a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct InboundSetting {
    /// The effective mode.
    pub mode: MutualTlsMode,
    /// The policy that decided it; `null` = the built-in PERMISSIVE.
    pub policy: Option<ObjectRef>,
}

impl CallChange {
    /// Whether the calls go on, and in plaintext what was mutual TLS, with some endpoints or all.
    pub fn is_downgrade(&self) -> bool {
        let verdict = |call: &Option<Call>| call.as_ref().map(|call| call.verdict);
        let plain = [Verdict::Plaintext, Verdict::Mixed, Verdict::Passthrough].map(Some);
        !self.breaks
            && verdict(&self.before) == Some(Verdict::MutualTls)
            && plain.contains(&verdict(&self.after))
    }
}

impl Diff {
    /// How many connections, pairs of a client and a port of a host, change in a certain way.
    pub fn count(&self, counts: impl Fn(&CallChange) -> bool) -> usize {
        let of_group = |group: &CallChanges| {
            group.clients.len() * group.changes.iter().filter(|change| counts(change)).count()
        };
        self.calls.iter().map(of_group).sum()
    }
}

/// Compares two snapshots. Every workload counts as a client, also those without a proxy; every port of every host that
/// it sees in either snapshot is looked at.
///
/// What two snapshots of one index share is not looked at again, so a small change costs little.
pub fn diff(before: &Snapshot, after: &Snapshot) -> Diff {
    Diff {
        workloads: membership(before, after),
        calls: calls::changes(before, after),
        inbound: inbound::changes(before, after),
    }
}

/// The workloads that are in both snapshots, as they are in each. Of a Pod and a WorkloadEntry of the same name, the
/// Pod.
pub fn survivors<'a>(
    before: &'a Snapshot,
    after: &'a Snapshot,
) -> impl Iterator<Item = (&'a Workload, &'a Workload)> {
    let known = move |workload: &Arc<Workload>| {
        before.workload(&workload.key()).is_some_and(|it| Arc::ptr_eq(it, workload))
    };
    before.workloads().filter(move |workload| known(workload)).filter_map(move |old| {
        let new = after.workload(&old.key())?;
        (!old.ended && !new.ended).then_some((&**old, &**new))
    })
}

/// The hosts of Services that select workloads and have none in either snapshot, sorted: what becomes of calls to them is
/// not known.
pub fn without_endpoints(before: &Snapshot, after: &Snapshot) -> Vec<Host> {
    let mut found: BTreeSet<Host> = unserved(after).collect();
    let known: BTreeSet<Host> = unserved(before).collect();
    found.retain(|host| known.contains(host) || !before.hosts.contains_key(host));
    found.into_iter().collect()
}

fn unserved(snapshot: &Snapshot) -> impl Iterator<Item = Host> {
    let services = snapshot.namespaces.values().flat_map(|space| space.services.values());
    let selects = |service: &&Arc<Service>| {
        service.selector.is_some() && service.external_name.is_none() && !service.ports.is_empty()
    };
    let empty = |service: &&Arc<Service>| endpoints::of_kubernetes(snapshot, service).is_empty();
    services.filter(selects).filter(empty).map(|service| snapshot.host_of(&service.meta.object))
}

fn membership(before: &Snapshot, after: &Snapshot) -> Membership {
    let alive = |snapshot: &Snapshot| -> BTreeSet<WorkloadKey> {
        snapshot.workloads().filter(|workload| !workload.ended).map(|workload| workload.key()).collect()
    };
    let (old, new) = (alive(before), alive(after));
    Membership {
        added: new.difference(&old).cloned().collect(),
        removed: old.difference(&new).cloned().collect(),
    }
}
