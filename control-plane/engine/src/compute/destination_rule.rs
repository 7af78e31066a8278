//! Which DestinationRule speaks for a host to the clients of a scope (tls-policy.md D2 to D7).

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Host, Name, ObjectRef, policy::DestinationRule};

use super::{
    merge::{self, Merged, Table},
    registry::View,
};
use crate::{ClientScope, Snapshot, trace::Step};

/// The rule that applies, if any, and what became of all others that match the host.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub rule: Option<Merged<'a>>,
    pub steps: Vec<Step>,
}

/// The namespace that ended the search: its most specific host and the rules for it that the client sees.
struct End<'a> {
    namespace: &'a Name,
    pattern: &'a Host,
    rules: Vec<Merged<'a>>,
}

/// A namespace whose most specific host has no rule that the client sees (D5).
struct Hidden<'a> {
    namespace: &'a Name,
    pattern: &'a Host,
}

/// The search as it went, from which every loser's reason is told.
struct Search<'a> {
    client: &'a Name,
    end: Option<End<'a>>,
    hidden: Vec<Hidden<'a>>,
}

/// D3: the client's namespace, the service's, the root namespace; the first one with a match ends the search, even
/// if none of its rules is then for this client (D7).
pub(crate) fn select<'a>(snapshot: &'a Snapshot, scope: &'a ClientScope, view: &View<'a>) -> Selection<'a> {
    let namespaces = namespaces(snapshot, scope, view);
    let mut search = Search { client: scope.namespace(), end: None, hidden: Vec::new() };
    for (namespace, table) in namespaces {
        let Some((pattern, found)) = most_specific(snapshot, namespace, view.host, table) else { continue };
        let rules: Vec<_> = found
            .into_iter()
            .filter(|rule| table != Table::Exported || rule.is_exported_to(scope.namespace()))
            .collect();
        if rules.is_empty() {
            search.hidden.push(Hidden { namespace, pattern });
            continue;
        }
        search.end = Some(End { namespace, pattern, rules });
        break;
    }
    let rule = search.end.as_ref().and_then(|end| pick(&end.rules, scope));
    let steps = search.steps(snapshot, view.host, &namespaces, rule.as_ref());
    Selection { rule, steps }
}

/// D3 and, for clients in the root namespace, D4: only its private rules come first.
fn namespaces<'a>(snapshot: &'a Snapshot, scope: &'a ClientScope, view: &View<'a>) -> [(&'a Name, Table); 3] {
    let root = &snapshot.mesh.root_namespace;
    let client = scope.namespace();
    let first = if client == root { Table::PrivateOfRoot } else { Table::Local };
    [(client, first), (view.owner.namespace(), Table::Exported), (root, Table::Exported)]
        .map(|(namespace, table)| (key_of(snapshot, namespace), table))
}

/// The namespace's name as the snapshot holds it.
fn key_of<'a>(snapshot: &'a Snapshot, namespace: &'a Name) -> &'a Name {
    snapshot.namespaces.get_key_value(namespace).map_or(namespace, |(key, _)| key)
}

/// D2: in one namespace the exact host, then the longest wildcard; D5: whether its rules can be seen is not asked.
fn most_specific<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    host: &Host,
    table: Table,
) -> Option<(&'a Host, Vec<Merged<'a>>)> {
    let space = snapshot.namespace(namespace);
    space.destination_rules.hosts_covering(host).find_map(|pattern| {
        let rules = merge::of_host(space, &snapshot.mesh, pattern, table);
        (!rules.is_empty()).then_some((pattern, rules))
    })
}

/// D6: the first rule that selects the client, else the last one without a selector.
fn pick<'a>(rules: &[Merged<'a>], scope: &ClientScope) -> Option<Merged<'a>> {
    let selecting = rules.iter().find(|rule| scope.is_selected_by(rule.reference()));
    let general = rules.iter().rev().find(|rule| rule.base.workload_selector.is_none());
    selecting.or(general).cloned()
}

impl<'a> Search<'a> {
    /// One step for each rule of the namespaces looked at that matches the host.
    fn steps(
        &self,
        snapshot: &'a Snapshot,
        host: &Host,
        namespaces: &[(&'a Name, Table)],
        chosen: Option<&Merged<'a>>,
    ) -> Vec<Step> {
        let mut seen: BTreeSet<&Name> = BTreeSet::new();
        let mut steps = Vec::new();
        for (namespace, _) in namespaces.iter().filter(|(namespace, _)| seen.insert(namespace)) {
            let rules = &snapshot.namespace(namespace).destination_rules;
            let matching = rules.hosts_covering(host).flat_map(|pattern| rules.of_host(pattern));
            steps.extend(matching.map(|rule| self.step(rule, chosen)));
        }
        steps
    }

    fn step(&self, rule: &'a Arc<DestinationRule>, chosen: Option<&Merged<'a>>) -> Step {
        let meta = &rule.meta;
        let winner = chosen.map(Merged::reference);
        if winner == Some(&meta.object) {
            return Step::inherited(meta, "D3", self.why_chosen(rule));
        }
        if let Some(merged) = chosen.filter(|one| one.younger.iter().any(|it| it.meta.object == meta.object))
        {
            return merged_step(rule, merged);
        }
        let (number, reason, winner) = self.why_lost(rule, winner);
        Step::lost(meta, number, reason, winner)
    }

    fn why_chosen(&self, rule: &DestinationRule) -> String {
        let whose = if rule.meta.namespace() == self.client { "the client's" } else { "the first matching" };
        let selected = if rule.workload_selector.is_some() { ", and selects the client" } else { "" };
        format!("most specific host {} in {whose} namespace {}{selected}", rule.host, rule.meta.namespace())
    }

    fn why_lost<'b>(
        &'b self,
        rule: &DestinationRule,
        chosen: Option<&'b ObjectRef>,
    ) -> (&'static str, String, Option<&'b ObjectRef>) {
        let namespace = rule.meta.namespace();
        if rule.workload_selector.is_some() && namespace != self.client {
            return ("D6", format!("its workloadSelector makes it private to {namespace}"), None);
        }
        let Some(end) = &self.end else { return self.why_unseen(rule) };
        let ender = chosen.or_else(|| end.rules.first().map(Merged::reference));
        if namespace != end.namespace {
            if self.hidden.iter().any(|hidden| hidden.namespace == namespace) {
                return self.why_unseen(rule);
            }
            let reason = format!("the search ended in namespace {} before it came here", end.namespace);
            return ("D3", reason, ender);
        }
        if !end.rules.iter().any(|one| one.rules().any(|it| it.meta.object == rule.meta.object)) {
            return match rule.host == *end.pattern {
                true => self.why_unseen(rule),
                false => ("D2", format!("{} is more specific than {}", end.pattern, rule.host), ender),
            };
        }
        match (&rule.workload_selector, chosen) {
            (Some(_), None) => ("D7", "selects other workloads, and hides every other rule".to_owned(), None),
            (Some(_), _) => ("D6", "selects other workloads, or an older one selects too".to_owned(), chosen),
            (None, Some(winner)) => {
                let reason =
                    format!("{winner} selects the client, or is the youngest of the rules kept apart");
                ("D9", reason, chosen)
            }
            (None, None) => ("D7", "no rule is for this client".to_owned(), None),
        }
    }

    fn why_unseen<'b>(&'b self, rule: &DestinationRule) -> (&'static str, String, Option<&'b ObjectRef>) {
        let namespace = rule.meta.namespace();
        match self.hidden.iter().find(|hidden| hidden.namespace == namespace) {
            Some(hidden) if rule.host != *hidden.pattern => {
                let reason =
                    format!("shadowed by the host {}, whose rules this client cannot see", hidden.pattern);
                ("D5", reason, None)
            }
            _ => ("D5", format!("its exportTo does not reach namespace {}", self.client), None),
        }
    }
}

/// D8: what a younger rule added to the one it was merged into.
fn merged_step<'a>(rule: &'a Arc<DestinationRule>, merged: &Merged<'a>) -> Step {
    let from_here = |source: &Arc<DestinationRule>| source.meta.object == rule.meta.object;
    let base = merged.reference();
    let policy = merged.traffic_policy.is_some_and(|(_, source)| from_here(source));
    let subsets = merged.subsets.iter().any(|(_, source)| from_here(source));
    if rule.traffic_policy.is_some() && !policy {
        let reason = format!("merged into the older {base}, whose trafficPolicy blocks this one as a whole");
        let winner = merged.traffic_policy.map_or(base, |(_, source)| &source.meta.object);
        Step::lost(&rule.meta, "D8", reason, Some(winner))
    } else if policy || subsets {
        Step::inherited(&rule.meta, "D8", format!("merged into the older {base}"))
    } else {
        Step::lost(
            &rule.meta,
            "D8",
            format!("merged into the older {base}, to which it adds nothing"),
            Some(base),
        )
    }
}
