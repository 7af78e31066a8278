//! Several DestinationRules for one host in one namespace: what is merged and what stays apart (POLICY.md D8, D9).

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{
    Name, ObjectRef,
    policy::{DestinationRule, Subset, TrafficPolicy},
    service::ExportTo,
};

/// A rule with what younger ones added to it; every part knows the rule that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Merged<'a> {
    /// The oldest rule, which gives host, visibility and selector.
    pub base: &'a Arc<DestinationRule>,
    /// The younger rules that were merged into it, oldest first.
    pub younger: Vec<(&'a Arc<DestinationRule>, Contribution<'a>)>,
    pub traffic_policy: Option<(&'a TrafficPolicy, &'a Arc<DestinationRule>)>,
    pub subsets: Vec<(&'a Subset, &'a Arc<DestinationRule>)>,
    /// Subsets whose name an older rule has already, with their own rule and that one.
    pub dropped: Vec<(&'a Name, &'a Arc<DestinationRule>, &'a ObjectRef)>,
}

/// D8: what a younger rule comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contribution<'a> {
    /// Its traffic policy or one of its subsets holds.
    Part,
    /// Its traffic policy is ignored, because this rule has one.
    PolicyIgnored(&'a ObjectRef),
    /// It says nothing that the older ones do not.
    Nothing,
}

/// Merges the rules of a namespace for one host, in the order of D6: with selector first, then by age.
pub(crate) fn merge<'a>(mut rules: Vec<&'a Arc<DestinationRule>>) -> Vec<Merged<'a>> {
    rules.sort_by_key(|rule| (rule.workload_selector.is_none(), rule.meta.age_key()));
    let mut merged: Vec<Merged<'a>> = Vec::new();
    for rule in rules {
        if stays_apart(&mut merged, rule) {
            merged.push(Merged::new(rule));
        }
    }
    merged
}

/// Merges a rule into the older ones that take it, and says whether it also stays on its own. The last older rule
/// that was looked at decides that.
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
    old == young || (!old.is_empty() && young.is_superset(old))
}

fn written(export_to: &ExportTo) -> &BTreeSet<Name> {
    static EMPTY: BTreeSet<Name> = BTreeSet::new();
    match export_to {
        ExportTo::Default => &EMPTY,
        ExportTo::Set(set) => set,
    }
}

impl<'a> Merged<'a> {
    fn new(base: &'a Arc<DestinationRule>) -> Self {
        Self {
            base,
            younger: Vec::new(),
            traffic_policy: base.traffic_policy.as_ref().map(|policy| (policy, base)),
            // Duplicates inside one rule are refused by validation (V2).
            subsets: base.subsets.iter().map(|subset| (subset, base)).collect(),
            dropped: Vec::new(),
        }
    }

    /// D8: unknown subsets are appended; the policy is taken only if there is none at all yet.
    fn add(&mut self, rule: &'a Arc<DestinationRule>) {
        let mut contribution = Contribution::Nothing;
        for subset in &rule.subsets {
            match self.subset(&subset.name) {
                None => {
                    self.subsets.push((subset, rule));
                    contribution = Contribution::Part;
                }
                Some((_, older)) => self.dropped.push((&subset.name, rule, &older.meta.object)),
            }
        }
        match (&self.traffic_policy, &rule.traffic_policy) {
            (Some((_, older)), Some(_)) => contribution = Contribution::PolicyIgnored(&older.meta.object),
            (None, Some(policy)) => {
                self.traffic_policy = Some((policy, rule));
                contribution = Contribution::Part;
            }
            (_, None) => {}
        }
        self.younger.push((rule, contribution));
    }

    /// The subset of that name and the rule that it comes from.
    pub(super) fn subset(&self, name: &str) -> Option<(&'a Subset, &'a Arc<DestinationRule>)> {
        self.subsets.iter().find(|(subset, _)| &*subset.name == name).copied()
    }

    /// Base and younger rules, oldest first.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'a Arc<DestinationRule>> {
        [self.base].into_iter().chain(self.younger.iter().map(|(rule, _)| *rule))
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
