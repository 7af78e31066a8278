//! Why every DestinationRule but one does not speak for a host: each loser with the rule that beat it.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Host, Name, ObjectRef, policy::DestinationRule};

use super::{merge::Merged, registry::View};
use crate::{Snapshot, trace::Step};

/// The namespace that ended the search: its most specific host and the rules for it that the client sees.
pub(super) struct End<'a> {
    pub namespace: &'a Name,
    pub pattern: &'a Host,
    pub rules: Vec<Merged<'a>>,
}

/// A namespace whose most specific host has no rule that the client sees (POLICY.md D5).
pub(super) struct Hidden<'a> {
    pub namespace: &'a Name,
    pub pattern: &'a Host,
    pub rule: &'a ObjectRef,
}

/// The search for a rule as it went.
pub(super) struct Search<'a> {
    pub client: &'a Name,
    pub chosen: Option<Merged<'a>>,
    pub end: Option<End<'a>>,
    pub hidden: Vec<Hidden<'a>>,
}

/// Rule number, reason and winner.
type Defeat<'b> = (&'static str, String, Option<&'b ObjectRef>);

impl<'a> Search<'a> {
    /// One step for each rule of the namespaces looked at that matches the host, or was perhaps meant to.
    pub(super) fn steps(
        &self,
        snapshot: &'a Snapshot,
        view: &View<'_>,
        namespaces: &[&'a Name],
    ) -> Vec<Step> {
        let mut seen: BTreeSet<&Name> = BTreeSet::new();
        let mut steps = Vec::new();
        for namespace in namespaces.iter().filter(|namespace| seen.insert(namespace)) {
            let rules = &snapshot.namespace(namespace).destination_rules;
            if rules.is_empty() {
                continue;
            }
            let matching = rules.hosts_covering(view.host).flat_map(|pattern| rules.of_host(pattern));
            steps.extend(matching.map(|rule| self.step(rule)));
            for (host, number, reason) in near_misses(snapshot, view) {
                let missing = rules.of_host(&host);
                steps.extend(missing.map(|rule| Step::lost(&rule.meta, number, reason, None)));
            }
        }
        let dropped = self.chosen.iter().flat_map(|merged| &merged.dropped);
        steps.extend(dropped.map(|(subset, rule, older)| {
            let reason = format!("its subset {subset} is dropped: {older} has one of that name");
            Step::lost(&rule.meta, "D8", reason, Some(older))
        }));
        steps
    }

    fn step(&self, rule: &'a Arc<DestinationRule>) -> Step {
        let meta = &rule.meta;
        let Some(chosen) = &self.chosen else { return self.lost(rule) };
        if *chosen.reference() == meta.object {
            return Step::inherited(meta, "D3", self.why_chosen(rule));
        }
        if chosen.younger.iter().any(|one| one.meta.object == meta.object) {
            return merged(rule, chosen);
        }
        self.lost(rule)
    }

    fn why_chosen(&self, rule: &DestinationRule) -> String {
        let whose = if rule.meta.namespace() == self.client { "the client's" } else { "the first matching" };
        let selected = if rule.workload_selector.is_some() { ", and it selects the client" } else { "" };
        format!(
            "{} is the most specific host in {whose} namespace {}{selected}",
            rule.host,
            rule.meta.namespace()
        )
    }

    fn lost(&self, rule: &DestinationRule) -> Step {
        let (number, reason, winner) = self.why_lost(rule);
        Step::lost(&rule.meta, number, reason, winner)
    }

    fn why_lost(&self, rule: &DestinationRule) -> Defeat<'_> {
        let namespace = rule.meta.namespace();
        if rule.workload_selector.is_some() && namespace != self.client {
            return ("D6", format!("its workloadSelector makes it private to namespace {namespace}"), None);
        }
        let Some(end) = self.end.as_ref().filter(|_| !self.is_hidden(namespace)) else {
            return self.why_unseen(rule);
        };
        let stood = end.rules.iter().any(|one| one.rules().any(|it| it.meta.object == rule.meta.object));
        match &self.chosen {
            None if stood => ("D6", "it selects other workloads".to_owned(), None),
            None if namespace != end.namespace || rule.host != *end.pattern => why_none(end),
            Some(chosen) if namespace != end.namespace => {
                let reason = format!("the search ended in namespace {} before it came here", end.namespace);
                ("D3", reason, Some(chosen.reference()))
            }
            Some(chosen) if stood => why_not_picked(rule, chosen),
            Some(chosen) if rule.host != *end.pattern => {
                let reason = format!("{} is more specific than {}", end.pattern, rule.host);
                ("D2", reason, Some(chosen.reference()))
            }
            _ => self.why_unseen(rule),
        }
    }

    fn is_hidden(&self, namespace: &Name) -> bool {
        self.hidden.iter().any(|hidden| hidden.namespace == namespace)
    }

    /// D5: visibility is asked after the most specific host was picked.
    fn why_unseen(&self, rule: &DestinationRule) -> Defeat<'_> {
        let namespace = rule.meta.namespace();
        match self.hidden.iter().find(|hidden| hidden.namespace == namespace) {
            Some(hidden) if rule.host != *hidden.pattern => {
                let reason =
                    format!("shadowed by the more specific {}, which this client cannot see", hidden.pattern);
                ("D5", reason, Some(hidden.rule))
            }
            _ => ("D5", format!("its exportTo does not reach namespace {}", self.client), None),
        }
    }
}

/// D7: rules that select somebody else have ended the search, and this client has none.
fn why_none<'b>(end: &'b End<'_>) -> Defeat<'b> {
    let ender = end.rules.first().map(Merged::reference);
    let reason = format!(
        "hidden by {}, which selects other workloads and yet ends the search for {}",
        ender.map(ToString::to_string).unwrap_or_default(),
        end.pattern
    );
    ("D7", reason, ender)
}

/// D6 and D9: of the rules kept apart, the first that selects the client, else the last without a selector.
fn why_not_picked<'b>(rule: &DestinationRule, chosen: &'b Merged<'_>) -> Defeat<'b> {
    let winner = chosen.reference();
    match (&rule.workload_selector, &chosen.base.workload_selector) {
        (Some(_), None) => ("D6", "it selects other workloads".to_owned(), None),
        (Some(_), Some(_)) => {
            let reason = format!("it selects other workloads, or the older {winner} selects this one too");
            ("D6", reason, Some(winner))
        }
        (None, Some(_)) => ("D6", format!("{winner} selects the client"), Some(winner)),
        (None, None) => {
            let reason =
                format!("its exportTo differs from that of {winner}, and of such rules the youngest is used");
            ("D9", reason, Some(winner))
        }
    }
}

/// D8: what a younger rule added to the one that it was merged into.
fn merged(rule: &Arc<DestinationRule>, chosen: &Merged<'_>) -> Step {
    let from_here = |source: &Arc<DestinationRule>| source.meta.object == rule.meta.object;
    let base = chosen.reference();
    let policy = chosen.traffic_policy.is_some_and(|(_, source)| from_here(source));
    let subsets = chosen.subsets.iter().any(|(_, source)| from_here(source));
    if rule.traffic_policy.is_some() && !policy {
        let winner = chosen.traffic_policy.map_or(base, |(_, source)| &source.meta.object);
        let reason =
            format!("its trafficPolicy is ignored whole: merged into the older {base}, {winner} has one");
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

/// Hosts that look as if they meant this one, and do not: partial names (D1) and aliases (O1).
fn near_misses(snapshot: &Snapshot, view: &View<'_>) -> Vec<(Host, &'static str, &'static str)> {
    let partial = "a host with a dot is taken literally, and this one names no service: write the full name";
    let alias =
        "its host is an ExternalName alias, which has no cluster of its own: rules must name the target";
    let service = view.service.map(|service| &service.meta.object);
    let partials = service.into_iter().flat_map(|ObjectRef { namespace, name, .. }| {
        [format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")]
    });
    let aliases = snapshot.aliases_of(view.host).into_iter().map(|name| snapshot.host_of(&name));
    let partials = partials.map(|host| (Host::new(&host), "D1", partial));
    partials.chain(aliases.map(|host| (host, "O1", alias))).collect()
}
