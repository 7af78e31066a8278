//! Which DestinationRule applies to a host for the clients of a scope (POLICY.md D2 to D7).
//!
//! The search notes what becomes of each rule ([`Fate`]). The winner is known last, so fates become reasons when the
//! search is over.

use std::{cell::LazyCell, collections::BTreeMap, sync::Arc};

use eastwest_model::{Host, MeshConfig, Name, ObjectRef, policy::DestinationRule, service::ExportTo};

use super::{
    merge::{self, Contribution, Merged},
    registry::{View, is_visible},
};
use crate::{
    ClientScope, Snapshot,
    trace::{DestinationRuleReason as Reason, Step},
    world::Rules,
};

/// The rule that applies, if any, and what became of all others that match the host.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub rule: Option<Merged<'a>>,
    pub steps: Vec<Step>,
}

/// Which rules of a namespace take part; they are merged in separate tables (D9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// For clients of the rule's own namespace.
    Local,
    /// For clients of other namespaces.
    Exported,
    /// Private rules of the root namespace, for its own clients (D4).
    PrivateOfRoot,
}

/// What became of a rule in the search.
#[derive(Debug, Clone, Copy)]
enum Fate<'a> {
    /// D2: the rules for a more specific host of its namespace ended the search.
    LessSpecific,
    /// D3: the search ended in another namespace.
    NotReached,
    /// D4: the private rules of the root namespace ended the search.
    PrivateFirst,
    /// D5: its exportTo does not reach the client.
    NotExported,
    /// D5: its namespace has rules for a more specific host, and the client sees none of those.
    Shadowed { pattern: &'a Host, by: &'a ObjectRef },
    /// D6: its workloadSelector keeps it in its own namespace.
    Private,
    /// It is one of those that D6 chooses from.
    Candidate,
}

/// The namespace that ended the search: its most specific host and the rules for it that the client sees.
struct End<'a> {
    namespace: &'a Name,
    pattern: &'a Host,
    rules: Vec<Merged<'a>>,
}

/// The rules of one namespace for the host, by the rank of their own host, the most specific first, and by name.
type Fates<'a> = BTreeMap<(usize, &'a Name), (&'a Arc<DestinationRule>, Fate<'a>)>;

/// D3: the client's namespace, the service's, the root namespace; the first one with a match ends the search, even
/// if none of its rules is then for this client (D7).
pub(crate) fn select<'a>(snapshot: &'a Snapshot, scope: &'a ClientScope, view: &View<'a>) -> Selection<'a> {
    let namespaces = namespaces(snapshot, scope, view);
    let mut search =
        Search { snapshot, client: scope.namespace(), host: view.host, fates: BTreeMap::new(), end: None };
    for (namespace, table) in namespaces {
        search.end = search.visit(namespace, table);
        if search.end.is_some() {
            break;
        }
    }
    let chosen = search.end.as_ref().and_then(|end| pick(&end.rules, scope));
    let steps = search.steps(view, chosen.as_ref(), &namespaces.map(|(namespace, _)| namespace));
    Selection { rule: chosen, steps }
}

/// D3 and, for clients in the root namespace, D4: only its private rules come first.
fn namespaces<'a>(snapshot: &'a Snapshot, scope: &'a ClientScope, view: &View<'a>) -> [(&'a Name, Table); 3] {
    let root = &snapshot.mesh.root_namespace;
    let client = scope.namespace();
    let first = if client == root { Table::PrivateOfRoot } else { Table::Local };
    [(client, first), (view.owner.namespace(), Table::Exported), (root, Table::Exported)]
}

/// D6: the first rule that selects the client, else the last one without a selector.
fn pick<'a>(rules: &[Merged<'a>], scope: &ClientScope) -> Option<Merged<'a>> {
    let selecting = rules.iter().find(|rule| scope.is_selected_by(rule.reference()));
    let general = rules.iter().rev().find(|rule| rule.base.workload_selector.is_none());
    selecting.or(general).cloned()
}

/// D4, D5, D6: why a rule does not stand in a table; `None` if it does. A rule with a selector is private to its
/// namespace.
fn exclusion(rule: &DestinationRule, mesh: &MeshConfig, table: Table) -> Option<Fate<'static>> {
    let home = rule.meta.namespace();
    let selects = rule.workload_selector.is_some();
    let kept_home = || match &rule.export_to {
        ExportTo::Default => mesh.default_destination_rule_export_to.contains("."),
        ExportTo::Set(set) => set.len() == 1 && (set.contains(".") || set.contains(home)),
    };
    match table {
        Table::Local => (!selects && !is_visible(&rule.export_to, home, home)).then_some(Fate::NotExported),
        Table::Exported if selects => Some(Fate::Private),
        Table::Exported => kept_home().then_some(Fate::NotExported),
        Table::PrivateOfRoot => (!selects && !kept_home()).then_some(Fate::PrivateFirst),
    }
}

/// The search for the rule of a host.
struct Search<'a> {
    snapshot: &'a Snapshot,
    /// The client's namespace.
    client: &'a Name,
    host: &'a Host,
    /// What became of the rules of each namespace that was searched.
    fates: BTreeMap<&'a Name, Fates<'a>>,
    end: Option<End<'a>>,
}

impl<'a> Search<'a> {
    /// D2: in one namespace the exact host, then the longest wildcard; D5: only then, whether the client sees its
    /// rules.
    fn visit(&mut self, namespace: &'a Name, table: Table) -> Option<End<'a>> {
        let snapshot = self.snapshot;
        let rules = &snapshot.namespace(namespace).destination_rules;
        let mut fates = Fates::new();
        let mut patterns = rules.hosts_covering(self.host).enumerate();
        let found = patterns.by_ref().find_map(|(rank, pattern)| {
            let mut members = Vec::new();
            for rule in rules.of_host(pattern) {
                match exclusion(rule, &snapshot.mesh, table) {
                    Some(fate) => drop(fates.insert((rank, rule.meta.name()), (rule, fate))),
                    None => members.push(rule),
                }
            }
            (!members.is_empty()).then(|| (rank, pattern, merge::merge(members)))
        });
        let Some((rank, pattern, merged)) = found else {
            // D4: the root namespace is searched again, for its exported rules.
            if table != Table::PrivateOfRoot {
                self.fates.insert(namespace, fates);
            }
            return None;
        };
        let by = merged[0].reference();
        let is_visible = |rule: &Merged<'a>| table != Table::Exported || rule.is_exported_to(self.client);
        let (visible, hidden): (Vec<_>, Vec<_>) = merged.into_iter().partition(is_visible);
        // A rule that is merged into several stands to choice if one of them does.
        for (merged, fate) in [(&hidden, Fate::NotExported), (&visible, Fate::Candidate)] {
            let rules = merged.iter().flat_map(Merged::rules);
            fates.extend(rules.map(|rule| ((rank, rule.meta.name()), (rule, fate))));
        }
        let rest = if visible.is_empty() { Fate::Shadowed { pattern, by } } else { Fate::LessSpecific };
        fates.extend(self.remaining(patterns, rules, rest));
        self.fates.insert(namespace, fates);
        (!visible.is_empty()).then_some(End { namespace, pattern, rules: visible })
    }

    /// The rules for hosts that are not looked at, which leaves them `fate`, unless D6 keeps them from the client
    /// anyway.
    fn remaining(
        &self,
        patterns: impl Iterator<Item = (usize, &'a Host)>,
        rules: &'a Rules,
        fate: Fate<'a>,
    ) -> Fates<'a> {
        let ranked =
            patterns.flat_map(|(rank, pattern)| rules.of_host(pattern).map(move |rule| (rank, rule)));
        let fate_of = |rule: &DestinationRule| match &rule.workload_selector {
            Some(_) if rule.meta.namespace() != self.client => Fate::Private,
            _ => fate,
        };
        ranked.map(|(rank, rule)| ((rank, rule.meta.name()), (rule, fate_of(rule)))).collect()
    }

    /// One step for each rule of the namespaces that matches the host, or was perhaps meant to.
    fn steps(mut self, view: &View<'_>, chosen: Option<&Merged<'a>>, namespaces: &[&'a Name]) -> Vec<Step> {
        let mut steps = Vec::new();
        let near_misses = LazyCell::new(|| near_misses(self.snapshot, view));
        for (at, namespace) in namespaces.iter().enumerate() {
            let rules = &self.snapshot.namespace(namespace).destination_rules;
            if rules.is_empty() || namespaces[..at].contains(namespace) {
                continue;
            }
            let fates = self.fates.remove(namespace).unwrap_or_else(|| {
                let patterns = rules.hosts_covering(self.host).enumerate();
                self.remaining(patterns, rules, Fate::NotReached)
            });
            let reasons = fates.into_values().map(|(rule, fate)| (rule, self.reason(rule, fate, chosen)));
            steps.extend(reasons.map(|(rule, reason)| Step::of(&rule.meta, reason)));
            for (host, reason) in near_misses.iter() {
                steps.extend(rules.of_host(host).map(|rule| Step::of(&rule.meta, reason.clone())));
            }
        }
        let dropped = chosen.into_iter().flat_map(|merged| &merged.dropped);
        steps.extend(dropped.map(|(subset, rule, older)| {
            let reason =
                Reason::SubsetDropped { subset: Name::clone(subset), winner: ObjectRef::clone(older) };
            Step::of(&rule.meta, reason)
        }));
        steps
    }

    /// The reason that a fate comes to, now that it is known which rule was chosen.
    fn reason(&self, rule: &Arc<DestinationRule>, fate: Fate<'_>, chosen: Option<&Merged<'_>>) -> Reason {
        match fate {
            Fate::Private => Reason::Private { namespace: rule.meta.namespace().clone() },
            Fate::NotExported => Reason::NotExported { client: self.client.clone() },
            Fate::Shadowed { pattern, by } => {
                Reason::Shadowed { pattern: pattern.clone(), winner: by.clone() }
            }
            Fate::Candidate => self.reason_of_candidate(rule, chosen),
            Fate::LessSpecific | Fate::NotReached | Fate::PrivateFirst => {
                self.reason_after_end(rule, fate, chosen)
            }
        }
    }

    /// Why a rule was not looked at any more when the search had ended.
    fn reason_after_end(
        &self,
        rule: &DestinationRule,
        fate: Fate<'_>,
        chosen: Option<&Merged<'_>>,
    ) -> Reason {
        // Without an end everything was looked at, to no end.
        let Some(end) = &self.end else { return Reason::NotExported { client: self.client.clone() } };
        let pattern = end.pattern.clone();
        let Some(winner) = chosen.map(|chosen| chosen.reference().clone()) else {
            return Reason::HiddenBySelecting { pattern, winner: end.rules[0].reference().clone() };
        };
        match fate {
            Fate::LessSpecific => Reason::LessSpecific { host: rule.host.clone(), pattern, winner },
            Fate::PrivateFirst => Reason::PrivateFirst { winner },
            _ => Reason::NotReached { end: end.namespace.clone(), winner },
        }
    }

    /// D6, D8 and D9: what became of the rules that stood to choice.
    fn reason_of_candidate(&self, rule: &Arc<DestinationRule>, chosen: Option<&Merged<'_>>) -> Reason {
        let Some(chosen) = chosen else { return Reason::SelectsOthers };
        let selects = rule.workload_selector.is_some();
        if Arc::ptr_eq(rule, chosen.base) {
            let namespace = rule.meta.namespace().clone();
            let at_client = namespace == *self.client;
            return Reason::Applies { host: rule.host.clone(), namespace, at_client, selects };
        }
        let winner = chosen.reference().clone();
        if let Some((_, contribution)) = chosen.younger.iter().find(|(one, _)| Arc::ptr_eq(rule, one)) {
            let base = winner;
            return match contribution {
                Contribution::Part => Reason::Merged { base },
                Contribution::PolicyIgnored(older) => {
                    Reason::PolicyIgnored { base, winner: ObjectRef::clone(older) }
                }
                Contribution::Nothing => Reason::AddsNothing { base },
            };
        }
        match (selects, chosen.base.workload_selector.is_some()) {
            (true, false) => Reason::SelectsOthers,
            (true, true) => Reason::SelectsOthersOrComesLater { winner },
            (false, true) => Reason::SelectedInstead { winner },
            (false, false) => Reason::OtherExport { winner },
        }
    }
}

/// Hosts that look as if they meant this one, and do not: partial names (D1) and aliases (O1).
fn near_misses(snapshot: &Snapshot, view: &View<'_>) -> Vec<(Host, Reason)> {
    let service = view.service.map(|service| &service.meta.object);
    let partials = service.into_iter().flat_map(|ObjectRef { namespace, name, .. }| {
        [format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")]
    });
    let aliases = snapshot.aliases_of(view.host).into_iter().map(|name| snapshot.host_of(&name));
    let partials = partials.map(|host| (Host::new(&host), Reason::PartialHost));
    partials.chain(aliases.map(|host| (host, Reason::AliasHost))).collect()
}
