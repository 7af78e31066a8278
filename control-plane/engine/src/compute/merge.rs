//! Several DestinationRules for one host in one namespace: what is merged and what stays apart (POLICY.md D8, D9).

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{
    Host, MeshConfig, Name, ObjectRef,
    policy::{DestinationRule, Subset, TrafficPolicy},
    service::ExportTo,
};

use super::registry::is_visible;
use crate::world::Namespace;

/// A rule with what younger ones added to it; every part knows the rule that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Merged<'a> {
    /// The oldest rule, which gives host, visibility and selector.
    pub base: &'a Arc<DestinationRule>,
    /// The younger rules that were merged into it.
    pub younger: Vec<&'a Arc<DestinationRule>>,
    pub traffic_policy: Option<(&'a TrafficPolicy, &'a Arc<DestinationRule>)>,
    pub subsets: Vec<(&'a Subset, &'a Arc<DestinationRule>)>,
    /// Subsets whose name an older rule has already, with their own rule and that one.
    pub dropped: Vec<(&'a Name, &'a Arc<DestinationRule>, &'a ObjectRef)>,
}

/// Which rules of a namespace take part; they are merged in separate tables (D9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// For clients of the rule's own namespace.
    Local,
    /// For clients of other namespaces.
    Exported,
    /// Private rules of the root namespace, for its own clients (D4).
    PrivateOfRoot,
}

/// The rules of a namespace for exactly this host, merged, in the order of D6: with selector first, then by age.
pub(crate) fn of_host<'a>(
    space: &'a Namespace,
    mesh: &MeshConfig,
    host: &Host,
    table: Table,
) -> Vec<Merged<'a>> {
    let rules = space.destination_rules.of_host(host);
    let mut rules: Vec<_> = rules.filter(|rule| belongs(rule, mesh, table)).collect();
    rules.sort_by_key(|rule| (rule.workload_selector.is_none(), rule.meta.age_key()));
    let mut merged: Vec<Merged<'a>> = Vec::new();
    for rule in rules {
        if stays_apart(&mut merged, rule) {
            merged.push(Merged::new(rule));
        }
    }
    merged
}

/// D5, D6: in which tables a rule stands. A rule with a selector is private to its namespace.
fn belongs(rule: &DestinationRule, mesh: &MeshConfig, table: Table) -> bool {
    let home = rule.meta.namespace();
    let private = rule.workload_selector.is_some()
        || match &rule.export_to {
            ExportTo::Default => mesh.default_destination_rule_export_to.contains("."),
            ExportTo::Set(set) => set.len() == 1 && (set.contains(".") || set.contains(home)),
        };
    match table {
        Table::Local => rule.workload_selector.is_some() || is_visible(&rule.export_to, home, home),
        Table::Exported => !private,
        Table::PrivateOfRoot => private,
    }
}

/// Merges a rule into the older ones that take it, and says whether it also stays on its own. The last older rule
/// that was looked at has the last word on that.
fn stays_apart<'a>(older: &mut [Merged<'a>], rule: &'a Arc<DestinationRule>) -> bool {
    let mut apart = true;
    for one in older {
        // D8: only rules with the same selector are merged (D10, a rule without one, is not imitated).
        if one.base.workload_selector == rule.workload_selector && takes(one.base, rule) {
            one.add(rule);
            apart = false;
        } else {
            apart = true;
        }
    }
    apart
}

/// D8: equal sets, compared as written; D9: or a younger set that contains an older one that is not empty.
fn takes(older: &DestinationRule, younger: &DestinationRule) -> bool {
    if older.workload_selector.is_some() {
        return true;
    }
    let (old, young) = (written(&older.export_to), written(&younger.export_to));
    old == young || (!old.is_empty() && young.is_superset(&old))
}

fn written(export_to: &ExportTo) -> BTreeSet<Name> {
    match export_to {
        ExportTo::Default => BTreeSet::new(),
        ExportTo::Set(set) => set.clone(),
    }
}

impl<'a> Merged<'a> {
    fn new(base: &'a Arc<DestinationRule>) -> Self {
        let mut merged = Self {
            base,
            younger: Vec::new(),
            traffic_policy: base.traffic_policy.as_ref().map(|policy| (policy, base)),
            subsets: Vec::new(),
            dropped: Vec::new(),
        };
        // Duplicates inside one rule are refused by validation (V2).
        merged.subsets.extend(base.subsets.iter().map(|subset| (subset, base)));
        merged
    }

    /// D8: unknown subsets are appended; the policy is taken only if there is none at all yet.
    fn add(&mut self, rule: &'a Arc<DestinationRule>) {
        for subset in &rule.subsets {
            match self.subset(&subset.name) {
                None => self.subsets.push((subset, rule)),
                Some((_, older)) => self.dropped.push((&subset.name, rule, &older.meta.object)),
            }
        }
        if self.traffic_policy.is_none() {
            self.traffic_policy = rule.traffic_policy.as_ref().map(|policy| (policy, rule));
        }
        self.younger.push(rule);
    }

    /// The subset of that name and the rule that it comes from.
    pub(super) fn subset(&self, name: &str) -> Option<(&'a Subset, &'a Arc<DestinationRule>)> {
        self.subsets.iter().find(|(subset, _)| &*subset.name == name).copied()
    }

    /// Base and younger rules, oldest first.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'a Arc<DestinationRule>> {
        [self.base].into_iter().chain(self.younger.iter().copied())
    }

    /// Whether clients of another namespace may see it (D5).
    pub(super) fn is_exported_to(&self, client: &str) -> bool {
        match &self.base.export_to {
            ExportTo::Default => true,
            ExportTo::Set(set) => set.contains("*") || set.contains(client),
        }
    }

    /// What names the base.
    pub(super) fn reference(&self) -> &'a ObjectRef {
        &self.base.meta.object
    }
}
