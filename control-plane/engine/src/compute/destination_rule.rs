//! Which DestinationRule speaks for a host to the clients of a scope (POLICY.md D2 to D7).

use eastwest_model::{Host, Name};

use super::{
    losers::{End, Hidden, Search},
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

/// D3: the client's namespace, the service's, the root namespace; the first one with a match ends the search, even
/// if none of its rules is then for this client (D7).
pub(crate) fn select<'a>(snapshot: &'a Snapshot, scope: &'a ClientScope, view: &View<'a>) -> Selection<'a> {
    let namespaces = namespaces(snapshot, scope, view);
    let mut search = Search { client: scope.namespace(), chosen: None, end: None, hidden: Vec::new() };
    for (namespace, table) in namespaces {
        let Some((pattern, found)) = most_specific(snapshot, namespace, view.host, table) else { continue };
        let rule = found[0].reference();
        let rules: Vec<_> = found
            .into_iter()
            .filter(|rule| table != Table::Exported || rule.is_exported_to(scope.namespace()))
            .collect();
        if rules.is_empty() {
            search.hidden.push(Hidden { namespace, pattern, rule });
            continue;
        }
        search.end = Some(End { namespace, pattern, rules });
        break;
    }
    search.chosen = search.end.as_ref().and_then(|end| pick(&end.rules, scope));
    let steps = search.steps(snapshot, view, &namespaces.map(|(namespace, _)| namespace));
    Selection { rule: search.chosen, steps }
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
