//! Which calls change, and for which clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{Host, Kind, Name, Workload, WorkloadKey};

use super::{Call, CallChange, CallChanges, EndpointChange, survivors};
use crate::{
    ClientScope, ConnectionOutcome, Snapshot,
    calls::{Caller, Target},
    compute,
    explain::{self, EndpointExplanation, Explanation, Verdict},
    listeners::Reached,
    settings::{Discovery, Outbound, OutboundService},
};

/// The calls that change. Clients for which the same changes stand together.
pub(super) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<CallChanges> {
    let shared = Shared { before, after };
    let groups: Vec<_> = groups(before, after).into_iter().collect();
    let mut concerned: BTreeMap<CallChange, BTreeSet<usize>> = BTreeMap::new();
    for (number, (group, clients)) in groups.iter().enumerate() {
        // All clients of a group stand for each other.
        let Some(client) = clients.first() else { continue };
        let sides = [(before, &group.before), (after, &group.after)];
        let outbounds = sides.map(|(snapshot, client)| compute::outbound(snapshot, &client.scope));
        let [old, new] = [0, 1].map(|at| Side::new(sides[at].0, sides[at].1, client, &outbounds[at]));
        let (Some(old), Some(new)) = (old, new) else { continue };
        for change in changes_of(&old, &new, &shared) {
            concerned.entry(change).or_default().insert(number);
        }
    }
    let mut found: BTreeMap<BTreeSet<usize>, Vec<CallChange>> = BTreeMap::new();
    for (change, numbers) in concerned {
        found.entry(numbers).or_default().push(change);
    }
    let clients = |numbers: BTreeSet<usize>| {
        let all: BTreeSet<_> = numbers.into_iter().flat_map(|number| groups[number].1.clone()).collect();
        all.into_iter().collect()
    };
    let mut found: Vec<_> = found
        .into_iter()
        .map(|(numbers, changes)| CallChanges { clients: clients(numbers), changes })
        .collect();
    found.sort_by(|a, b| a.clients.cmp(&b.clients));
    found
}

/// What a client's calls depend on in one snapshot.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    scope: ClientScope,
    has_proxy: bool,
}

/// What they depend on in both snapshots.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    before: Client,
    after: Client,
}

/// The workloads that are in both snapshots, by what their calls depend on.
fn groups(before: &Snapshot, after: &Snapshot) -> BTreeMap<Group, Vec<WorkloadKey>> {
    let mut groups: BTreeMap<Group, Vec<WorkloadKey>> = BTreeMap::new();
    for (old, new) in survivors(before, after) {
        let [before, after] = [(before, old), (after, new)].map(|(snapshot, workload)| Client {
            scope: ClientScope::of(snapshot, workload),
            has_proxy: compute::has_proxy(workload),
        });
        groups.entry(Group { before, after }).or_default().push(old.key());
    }
    groups
}

/// What both snapshots share, which cannot differ.
struct Shared<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
}

impl Shared<'_> {
    /// Whether the servers of a host ask the same of their callers: nothing in its namespace, in the root namespace or
    /// in the mesh's settings differs.
    fn servers(&self, service: &OutboundService) -> bool {
        Arc::ptr_eq(&self.before.mesh, &self.after.mesh)
            && self.namespace(&self.before.mesh.root_namespace)
            && self.namespace(&service.owner.namespace)
    }

    fn namespace(&self, name: &Name) -> bool {
        match (self.before.namespaces.get(name), self.after.namespaces.get(name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        }
    }
}

/// One snapshot as one client sees it.
struct Side<'a> {
    client: &'a Workload,
    has_proxy: bool,
    caller: Caller<'a>,
}

/// What a call meets.
struct Fate<'a> {
    target: Target,
    /// For each address that is dialled.
    reached: Vec<Reached<'a>>,
}

impl<'a> Side<'a> {
    fn new(
        snapshot: &'a Snapshot,
        client: &'a Client,
        key: &WorkloadKey,
        outbound: &'a Outbound,
    ) -> Option<Self> {
        let caller = Caller::new(snapshot, &client.scope, outbound);
        Some(Self { client: snapshot.workload(key)?, has_proxy: client.has_proxy, caller })
    }

    /// What becomes of the calls to a port of a host; `None` if the client does not know it.
    fn call(&self, host: &Host, port: u16) -> Option<Explanation> {
        explain::explain_call(&self.caller, self.client, host.as_str(), port).ok()
    }

    /// What a call meets, without a look at the servers.
    fn fate(&self, host: &Host, port: u16) -> Option<Fate<'a>> {
        let target = self.caller.target(host.as_str(), port).ok()?;
        let reached = match self.has_proxy {
            true => self.caller.ways(&target).into_iter().map(|way| way.resolved.to).collect(),
            false if self.caller.dialled(&target).is_empty() => Vec::new(),
            false => {
                let known = target.host.as_ref().and_then(|host| self.caller.cluster(host, port));
                vec![known.map_or(Reached::Passthrough, Reached::Cluster)]
            }
        };
        Some(Fate { target, reached })
    }
}

/// Whether nothing can differ between two calls: both meet the same, and the servers ask the same as before.
fn stays(old: &Fate<'_>, new: &Fate<'_>, side: &Side<'_>, shared: &Shared<'_>) -> bool {
    let of_mesh = old.target.addresses.iter().any(Option::is_some);
    let alike = |reached: &Reached<'_>| match reached {
        Reached::BlackHole | Reached::Answered(_) => true,
        Reached::Passthrough => !of_mesh,
        Reached::Cluster(cluster) => {
            let service = side.caller.outbound.services.get(&cluster.host);
            // An address that a ServiceEntry names may be that of any workload.
            let foreign = cluster.discovery == Discovery::OriginalDst && of_mesh;
            service.is_some_and(|service| {
                shared.servers(service) && !(foreign && service.owner.kind == Kind::ServiceEntry)
            })
        }
    };
    old.target == new.target && old.reached == new.reached && old.reached.iter().all(alike)
}

/// What changes for one client.
fn changes_of(old: &Side<'_>, new: &Side<'_>, shared: &Shared<'_>) -> Vec<CallChange> {
    let (before, after) = (&old.caller.outbound.services, &new.caller.outbound.services);
    let same_proxy = old.has_proxy == new.has_proxy;
    let hosts: BTreeSet<&Host> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for host in hosts {
        let services = [before.get(host), after.get(host)];
        let clusters = services.into_iter().flatten().flat_map(|service| &service.clusters);
        let ports: BTreeSet<u16> = clusters.map(|cluster| cluster.port.number).collect();
        for port in ports {
            let fates = old.fate(host, port).zip(new.fate(host, port));
            if same_proxy && fates.is_some_and(|(before, after)| stays(&before, &after, new, shared)) {
                continue;
            }
            found.extend(change(host, port, old.call(host, port).as_ref(), new.call(host, port).as_ref()));
        }
    }
    found
}

fn change(
    host: &Host,
    port: u16,
    before: Option<&Explanation>,
    after: Option<&Explanation>,
) -> Option<CallChange> {
    let endpoints = endpoint_changes(before, after);
    let mode = |side: &Explanation| (side.verdict, side.setting.as_ref().map(|setting| setting.mode));
    let same = before.map(mode) == after.map(mode) && endpoints.is_empty();
    (!same).then(|| CallChange {
        host: host.clone(),
        port,
        breaks: breaks(before, after, &endpoints),
        before: before.map(call),
        after: after.map(call),
        endpoints,
    })
}

fn call(explanation: &Explanation) -> Call {
    let client = explanation.setting.as_ref().and_then(|setting| setting.policy.clone());
    let servers = ready(explanation).filter_map(|endpoint| endpoint.pair.server.policy.clone());
    Call {
        verdict: explanation.verdict,
        reason: explanation.reason.clone(),
        mode: explanation.setting.as_ref().map(|setting| setting.mode),
        decided_by: client.into_iter().chain(servers).collect(),
    }
}

fn ready(explanation: &Explanation) -> impl Iterator<Item = &EndpointExplanation> {
    explanation.endpoints.iter().filter(|endpoint| endpoint.ready)
}

fn endpoint_changes(before: Option<&Explanation>, after: Option<&Explanation>) -> Vec<EndpointChange> {
    let by_address = |side| -> BTreeMap<&str, &EndpointExplanation> {
        Option::into_iter(side).flat_map(ready).map(|one| (one.address.as_str(), one)).collect()
    };
    let (old, new) = (by_address(before), by_address(after));
    let both = old.into_iter().filter_map(|(address, one)| Some((address, one, *new.get(address)?)));
    both.filter(|(_, one, other)| one.pair.outcome != other.pair.outcome)
        .map(|(address, one, other)| EndpointChange {
            address: address.into(),
            workload: other.workload.clone(),
            before: one.pair.outcome,
            after: other.pair.outcome,
        })
        .collect()
}

/// How many of a client's connections work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Working {
    None,
    Some,
    All,
}

fn working(side: Option<&Explanation>) -> Working {
    match side.map(|side| side.verdict) {
        None | Some(Verdict::Refused | Verdict::NoEndpoints | Verdict::BlackHole) => Working::None,
        Some(Verdict::PartlyRefused) => Working::Some,
        Some(
            Verdict::MutualTls | Verdict::Plaintext | Verdict::Tls | Verdict::Mixed | Verdict::Passthrough,
        ) => Working::All,
    }
}

/// Whether less works than before, or not the same.
fn breaks(before: Option<&Explanation>, after: Option<&Explanation>, endpoints: &[EndpointChange]) -> bool {
    let (old, new) = (working(before), working(after));
    let refused = || endpoints.iter().any(|endpoint| endpoint.after == ConnectionOutcome::Refused);
    new < old || (new, old) == (Working::Some, Working::Some) && refused()
}
