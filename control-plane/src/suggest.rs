//! What somebody probably meant: the names that are there, nearest first.

use std::collections::BTreeSet;

use eastwest_engine::Snapshot;
use eastwest_model::{ObjectRef, edit_distance};

use crate::names::WorkloadName;

/// How many names a message lists.
const SHOWN: usize = 5;
/// What another namespace adds to the distance of two names, in letters.
const OTHER_NAMESPACE: usize = 2;

/// The end of a message about a workload that is not there.
pub(crate) fn workloads(snapshot: &Snapshot, asked: &WorkloadName) -> String {
    let names = names(snapshot, asked);
    match asked {
        WorkloadName::Of(_) => format!("{names} (one that is scaled to 0 or has ended has no Pods)"),
        _ => names,
    }
}

fn names(snapshot: &Snapshot, asked: &WorkloadName) -> String {
    let keys = || snapshot.workloads().map(|one| one.key());
    if keys().next().is_none() {
        return ": there are no workloads at all".to_owned();
    }
    let (namespace, name) = match asked {
        WorkloadName::Key(key) => (&*key.namespace, &*key.name),
        WorkloadName::Of(ObjectRef { namespace, name, .. }) => (&**namespace, &**name),
        WorkloadName::At(_) => return ": no workload has this address".to_owned(),
    };
    let all = keys().map(|key| {
        let place = if *key.namespace == *namespace { 0 } else { OTHER_NAMESPACE };
        (place + distance(name, &key.name), key.to_string())
    });
    let near = nearest(all, name.len() / 2);
    if !near.is_empty() {
        return format!(": did you mean {}?", near.join(" or "));
    }
    let mut here: Vec<String> =
        keys().filter(|key| *key.namespace == *namespace).map(|key| key.name.to_string()).collect();
    if here.is_empty() {
        let spaces: BTreeSet<String> = keys().map(|key| key.namespace.to_string()).collect();
        return format!(
            ": namespace {namespace} has no workloads; {} have some",
            listed(spaces.into_iter().collect())
        );
    }
    here.sort();
    format!(": namespace {namespace} has {}", listed(here))
}

/// The names of at most `bound` that come nearest. Of those that are equally near, the first in the alphabet.
pub(crate) fn nearest(all: impl Iterator<Item = (usize, String)>, bound: usize) -> Vec<String> {
    let mut near: Vec<_> = all.filter(|(distance, _)| *distance <= bound).collect();
    near.sort();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter().filter(|(distance, _)| *distance <= best + 1).map(|(_, name)| name).take(SHOWN).collect()
}

/// How far two names are apart. The name of a Pod begins with that of its Deployment.
pub(crate) fn distance(asked: &str, known: &str) -> usize {
    if known.strip_prefix(asked).is_some_and(|rest| rest.starts_with('-')) {
        return 1;
    }
    edit_distance(asked.as_bytes(), known.as_bytes())
}

/// The first names, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(2 * SHOWN);
    names.truncate(2 * SHOWN);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let near = |asked: &str, known: &[&str]| {
            let all = known.iter().map(|name| (distance(asked, name), (*name).to_owned()));
            nearest(all, asked.len() / 2)
        };
        assert_eq!(near("payment", &["catalog", "orders", "payments"]), ["payments"]);
        assert_eq!(
            near("reviews", &["ratings-0", "reviews-7d9-x", "reviews-8c1-y"]),
            ["reviews-7d9-x", "reviews-8c1-y"]
        );
        assert_eq!(near("orders-1", &["orders-0", "orders-11", "catalog-1"]), ["orders-0", "orders-11"]);
        assert!(near("nobody", &["catalog-0", "orders-0"]).is_empty());
    }
}
