//! `loadBalancer.localityLbSetting`.

use eastwest_model::{Name, policy::LocalityLoadBalancer};

use crate::field::Field;

const FIELDS: &[&str] = &["enabled", "distribute", "failover", "failoverPriority"];
/// Labels that mean the same as `failover` does.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
const WHOLE: u64 = 100;

/// `localityLbSetting`, of a rule.
pub(super) fn locality(field: &Field<'_>) -> LocalityLoadBalancer {
    field.slips(FIELDS);
    let enabled = field.get("enabled").flag();
    if enabled != Some(false) {
        field.warn("is not in force: endpoints are taken as if they were in one place");
    }
    let priority = field.get("failoverPriority").names();
    if field.has_any(&["failover"]) {
        if field.has_any(&["distribute"]) {
            field.error("has distribute and failover: keep one of the two");
        }
        if let Some(label) = priority.iter().find(|label| TOPOLOGY.contains(&&***label)) {
            field.error(format_args!("has failover and {label} in failoverPriority: keep one of the two"));
        }
    }
    LocalityLoadBalancer {
        enabled,
        distribute: distribute(&field.get("distribute")),
        failover: field.get("failover").list().iter().filter_map(failover).collect(),
        failover_priority: priority,
    }
}

fn distribute(field: &Field<'_>) -> Vec<(Name, std::collections::BTreeMap<Name, u32>)> {
    let entries = field.list();
    let mut sources: Vec<Name> = Vec::new();
    let mut found = Vec::new();
    for entry in &entries {
        let (from, to) = (entry.slips(&["from", "to"]).get("from"), entry.get("to"));
        let Some(source) = read(&from, from.name(), &sources) else { continue };
        sources.push(source.clone());
        let mut targets: Vec<Name> = Vec::new();
        let mut weights = std::collections::BTreeMap::new();
        for (target, weight) in to.entries() {
            let Some(target) = read(&weight, Some(target.into()), &targets) else { continue };
            targets.push(target.clone());
            weights.extend(weight.integer::<u32>(1..=WHOLE).map(|weight| (target, weight)));
        }
        let sum: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
        if sum != WHOLE {
            to.error(format_args!("adds up to {sum}: the weights must add up to {WHOLE}"));
        }
        found.push((source, weights));
    }
    found
}

/// A locality: `region/zone/subzone`, of which the last part may be `*`. None may lie within another.
fn read(field: &Field<'_>, text: Option<Name>, others: &[Name]) -> Option<Name> {
    let Some(text) = text else {
        field.error("missing: name a locality, for example eu-west/a/* or *");
        return None;
    };
    let star = text.find('*');
    if text.is_empty() || star.is_some_and(|at| at + 1 < text.len()) {
        field.error(format_args!(
            "{text:?} is no locality: write REGION/ZONE/SUBZONE; '*' may stand at its end"
        ));
        return None;
    }
    if let Some(other) = others.iter().find(|other| overlap(other, &text)) {
        field.error(format_args!("{text:?} overlaps {other:?}: each locality may be named once"));
        return None;
    }
    Some(text)
}

fn overlap(one: &str, other: &str) -> bool {
    let covers = |wide: &str, narrow: &str| match wide.strip_suffix('*') {
        Some(start) => narrow.starts_with(start) || start.strip_suffix('/') == Some(narrow),
        None => wide == narrow,
    };
    covers(one, other) || covers(other, one)
}

fn failover(entry: &Field<'_>) -> Option<(Name, Name)> {
    let (from, to) = (entry.slips(&["from", "to"]).get("from"), entry.get("to"));
    for region in [&from, &to] {
        if region.text().is_some_and(|text| text.contains(['/', '*'])) {
            region.error("is no region: give the first part of a locality alone");
        }
    }
    let pair = (from.name().unwrap_or_default(), to.name().unwrap_or_default());
    if pair.0 == pair.1 {
        entry.error("leads from a region to the same one: name another region");
        return None;
    }
    Some(pair)
}
