//! Subsets that nobody is in.

use std::collections::BTreeSet;

use eastwest_model::{
    Diagnostic, Labels,
    policy::{DestinationRule, Subset},
};

use super::warning;
use crate::{
    Snapshot,
    settings::{Discovery, OutboundService},
};

/// Subsets without an endpoint of hosts that have some (TRAFFIC.md B3): requests that are routed there are answered 503.
pub(super) fn findings(snapshot: &Snapshot, service: &OutboundService) -> Vec<Diagnostic> {
    let by_labels = service.clusters.iter().filter(|cluster| cluster.discovery == Discovery::Eds);
    let (taken, empty): (BTreeSet<_>, BTreeSet<_>) = {
        let (with, without): (Vec<_>, Vec<_>) = by_labels.partition(|cluster| !cluster.endpoints.is_empty());
        (
            with.into_iter().map(|cluster| cluster.subset.clone()).collect(),
            without
                .into_iter()
                .map(|cluster| (cluster.subset.clone(), cluster.traffic.rule.clone()))
                .collect(),
        )
    };
    if !taken.contains(&None) {
        return Vec::new();
    }
    let finding = |(subset, base): (Option<eastwest_model::Name>, Option<eastwest_model::ObjectRef>)| {
        let (name, base) = (subset?, base?);
        if taken.contains(&Some(name.clone())) {
            return None;
        }
        let space = snapshot.namespaces.get(&base.namespace)?;
        let base = space.destination_rules.get(&base.name)?;
        let (rule, subset) = space
            .destination_rules
            .of_host(&base.host)
            .min_by_key(|rule| (with_subset(rule, &name).is_none(), rule.meta.age_key()))
            .and_then(|rule| Some((rule, with_subset(rule, &name)?)))?;
        let message = format!(
            "subset {name:?} has no endpoint: none of {} has the labels {} (TRAFFIC.md B3)",
            service.host,
            written(&subset.labels)
        );
        Some(warning(&rule.meta.object, &rule.meta.origin, "spec.subsets", message))
    };
    empty.into_iter().filter_map(finding).collect()
}

fn with_subset<'a>(rule: &'a DestinationRule, name: &str) -> Option<&'a Subset> {
    rule.subsets.iter().find(|subset| &*subset.name == name)
}

fn written(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
