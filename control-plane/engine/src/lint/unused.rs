//! Objects without effect.

use std::collections::BTreeSet;

use eastwest_model::{
    Diagnostic, Effect, Host, Kind, Meta, ObjectRef, policy::DestinationRule, service::Sidecar,
};

use super::{warning, without_effect};
use crate::Snapshot;

/// Policies that select no workload, rules that match no host or serve no client, hosts that another object owns, and
/// Sidecars that lose to older ones. `used` took part in some decision, `None` if there is no client at all; objects
/// that are `known` to lose are not reported again.
pub(super) fn findings(
    snapshot: &Snapshot,
    used: Option<&BTreeSet<ObjectRef>>,
    known: &BTreeSet<Diagnostic>,
) -> Vec<Diagnostic> {
    let losers = known.iter().filter(|one| one.beaten_by.is_some()).map(|one| one.object.as_str());
    let mut found = policies_without_workloads(snapshot);
    found.extend(rules(snapshot, used, &losers.collect()));
    found.extend(lost_hosts(snapshot));
    found.extend(lost_sidecars(snapshot));
    found
}

fn policies_without_workloads(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, space) in &snapshot.namespaces {
        for policy in space.peer_authentications.values() {
            let beside_root = *name != snapshot.mesh.root_namespace;
            if beside_root
                && !policy.selector.is_empty()
                && space.workloads.selected(&policy.selector).next().is_none()
            {
                let message = format!("selects no workload of namespace {name} (rule P1)");
                let finding = warning(&policy.meta.object, &policy.meta.origin, "spec.selector", message);
                found.push(without_effect(finding, Effect::None));
            }
        }
    }
    found
}

/// Rules that match no host, and rules that match one and serve no client, except known `losers`.
fn rules(
    snapshot: &Snapshot,
    used: Option<&BTreeSet<ObjectRef>>,
    losers: &BTreeSet<&str>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for space in snapshot.namespaces.values() {
        for rule in space.destination_rules.values() {
            let matches = snapshot.hosts().any(|host| rule.host.covers(host));
            let idle = || used.is_some_and(|used| !used.contains(&rule.meta.object));
            let message = if !matches {
                format!("host {} matches no service{}", rule.written_host, hint(snapshot, rule))
            } else if idle() && !losers.contains(rule.meta.object.to_string().as_str()) {
                format!("serves no client: {}", why_unused(snapshot, rule))
            } else {
                continue;
            };
            let finding = warning(&rule.meta.object, &rule.meta.origin, "spec.host", message);
            found.push(without_effect(finding, Effect::None));
        }
    }
    found
}

fn hint(snapshot: &Snapshot, rule: &DestinationRule) -> String {
    if let Some(alias) = snapshot.service_of(&rule.host).filter(|one| one.external_name.is_some()) {
        let target = snapshot.alias_chain(alias).pop().map(|host| host.to_string()).unwrap_or_default();
        return format!(": it is an ExternalName alias, name its target {target} (rule O1)");
    }
    let full = |suffix: &str| Host::new(&format!("{}{suffix}", rule.host));
    let domain = &snapshot.mesh.cluster_domain;
    let meant = [full(&format!(".svc.{domain}")), full(&format!(".{domain}"))];
    match meant.iter().find(|host| snapshot.hosts.contains_key(host)) {
        Some(host) => format!(": a host with a dot is taken literally, write {host} (rule D1)"),
        None => String::new(),
    }
}

/// D3, D6: why no client uses the rule.
fn why_unused(snapshot: &Snapshot, rule: &DestinationRule) -> String {
    let namespace = rule.meta.namespace();
    if rule.workload_selector.is_some() {
        return format!("it selects no workload of namespace {namespace} that calls {} (rule D6)", rule.host);
    }
    let owners = snapshot.hosts.iter().filter(|(host, _)| rule.host.covers(host));
    let owned = owners.flat_map(|(_, owners)| owners).any(|owner| owner.namespace == *namespace);
    if owned || *namespace == snapshot.mesh.root_namespace {
        return "other rules are always found first, or nobody sees it (rules D3, D5)".to_owned();
    }
    format!(
        "{} belongs to another namespace, so that only clients in {namespace} would look here (rule D3)",
        rule.host
    )
}

/// D11: a host that a Service, or an older ServiceEntry of another namespace, owns for most clients.
fn lost_hosts(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (host, owners) in snapshot.hosts.iter().filter(|(_, owners)| owners.len() > 1) {
        let metas: Vec<&Meta> = owners.iter().filter_map(|owner| meta(snapshot, owner)).collect();
        let first = metas.iter().min_by_key(|meta| (meta.object.kind != Kind::Service, meta.age_key()));
        let Some(winner) = first else { continue };
        for loser in metas.iter().filter(|meta| meta.namespace() != winner.namespace()) {
            let message = format!(
                "{host} is owned by {}, except for clients in {} (rule D11)",
                winner.object,
                loser.namespace()
            );
            let finding = warning(&loser.object, &loser.origin, "spec.hosts", message);
            found.push(Diagnostic { beaten_by: Some(winner.object.clone()), ..finding });
        }
    }
    found
}

fn meta<'a>(snapshot: &'a Snapshot, object: &ObjectRef) -> Option<&'a Meta> {
    let space = snapshot.namespace(&object.namespace);
    match object.kind {
        Kind::Service => space.services.get(&object.name).map(|service| &service.meta),
        _ => space.service_entries.get(&object.name).map(|entry| &entry.meta),
    }
}

/// Only one Sidecar of a namespace holds for the workloads that no selector picks: the oldest.
fn lost_sidecars(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for space in snapshot.namespaces.values() {
        let mut general: Vec<&Sidecar> =
            space.sidecars.values().map(|one| &**one).filter(|one| one.selector.is_none()).collect();
        general.sort_by_key(|one| one.meta.age_key());
        let Some((winner, losers)) = general.split_first() else { continue };
        for loser in losers {
            let message =
                format!("ignored: {} is the older one without a workloadSelector", winner.meta.object);
            let finding = warning(&loser.meta.object, &loser.meta.origin, "spec", message);
            let finding = without_effect(finding, Effect::Shadowed);
            found.push(Diagnostic { beaten_by: Some(winner.meta.object.clone()), ..finding });
        }
    }
    found
}
