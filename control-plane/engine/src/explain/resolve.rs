//! Which host a name or an address means to a client.

use std::net::IpAddr;

use eastwest_model::Host;

use super::ExplainError;
use crate::{ClientScope, Snapshot, compute::registry};

/// How many similar names an error lists.
const MAX_SUGGESTIONS: usize = 5;

/// The address, if it is one; an IPv6 address may stand in brackets.
pub(super) fn address(asked: &str) -> Option<IpAddr> {
    asked.trim_matches(['[', ']']).parse().ok()
}

/// The host that a name or address leads to; `None` for what no service knows and need not know.
pub(super) fn host(
    snapshot: &Snapshot,
    scope: &ClientScope,
    asked: &str,
) -> Result<Option<Host>, ExplainError> {
    if let Some(address) = address(asked) {
        let owner = registry::views(snapshot, scope).find(|view| view.addresses.contains(&address));
        return Ok(owner.map(|view| view.host.clone()));
    }
    let candidates = candidates(snapshot, scope, asked);
    let found = candidates.iter().find_map(|name| seen(snapshot, scope, name));
    let wildcard = || {
        let name = Host::new(asked);
        let covering = snapshot.hosts().filter(|host| host.wildcard_suffix().is_some() && host.covers(&name));
        let mut covering: Vec<&Host> = covering.collect();
        covering.sort_by_key(|host| std::cmp::Reverse(host.as_str().len()));
        covering.into_iter().find_map(|host| seen(snapshot, scope, host))
    };
    if let Some(found) = found.or_else(wildcard) {
        return Ok(Some(found));
    }
    let exists = candidates.iter().any(|name| snapshot.hosts.contains_key(name));
    if !exists && is_outside(snapshot, asked) {
        return Ok(None);
    }
    let similar = similar(snapshot, scope, &candidates);
    let namespace = scope.namespace().clone();
    Err(ExplainError::UnknownHost { asked: asked.to_owned(), namespace, similar })
}

/// The full names that a name may stand for, as DNS would try them in the client's namespace.
fn candidates(snapshot: &Snapshot, scope: &ClientScope, asked: &str) -> Vec<Host> {
    let name = asked.trim_end_matches('.');
    let domain = &snapshot.mesh.cluster_domain;
    let namespace = scope.namespace();
    [
        name.to_owned(),
        format!("{name}.{namespace}.svc.{domain}"),
        format!("{name}.svc.{domain}"),
        format!("{name}.{domain}"),
    ]
    .iter()
    .map(|name| Host::new(name))
    .collect()
}

/// The host if the client sees it; an ExternalName alias leads on to its target (O1).
fn seen(snapshot: &Snapshot, scope: &ClientScope, host: &Host) -> Option<Host> {
    let alias = snapshot.service_of(host).filter(|service| service.external_name.is_some());
    let target = alias.and_then(|alias| snapshot.alias_chain(alias).pop());
    let host = target.as_ref().unwrap_or(host);
    let (host, _) = snapshot.hosts.get_key_value(host)?;
    registry::view(snapshot, scope, host).map(|view| view.host.clone())
}

/// A name with a dot that names neither the cluster's domain nor one of its namespaces.
fn is_outside(snapshot: &Snapshot, asked: &str) -> bool {
    let name = asked.trim_end_matches('.');
    let local = name.ends_with(&format!(".{}", snapshot.mesh.cluster_domain)) || name.ends_with(".svc");
    let in_namespace = name.split('.').nth(1).is_some_and(|label| snapshot.namespaces.contains_key(label));
    name.contains('.') && !local && !in_namespace
}

fn similar(snapshot: &Snapshot, scope: &ClientScope, candidates: &[Host]) -> Vec<Host> {
    let distance = |host: &Host| {
        let far = |name: &Host| edit_distance(name.as_str(), host.as_str());
        candidates.iter().map(far).min().unwrap_or(usize::MAX)
    };
    let mut near: Vec<(usize, Host)> =
        registry::views(snapshot, scope).map(|view| (distance(view.host), view.host.clone())).collect();
    near.sort();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, host)| *distance <= best + 2 && *distance <= host.as_str().len() / 2);
    near.into_iter().map(|(_, host)| host).take(MAX_SUGGESTIONS).collect()
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
