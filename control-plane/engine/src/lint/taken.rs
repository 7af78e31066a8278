//! ServiceEntries that claim what belongs to Kubernetes Services of other namespaces.

use std::collections::BTreeSet;

use eastwest_model::{
    Diagnostic, Host, Name,
    service::{Service, ServiceEntry},
};

use super::warning;
use crate::Snapshot;

/// D12: names and addresses of Services, and what becomes of calls to them.
pub(super) fn findings(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let entries = snapshot.namespaces.values().flat_map(|space| space.service_entries.values());
    entries.flat_map(|entry| names(snapshot, entry).into_iter().chain(addresses(snapshot, entry))).collect()
}

/// Each host that spells a Service. The full name of a Service is a claim like any other (D11), and is reported there.
fn names(snapshot: &Snapshot, entry: &ServiceEntry) -> BTreeSet<Diagnostic> {
    let reserved = snapshot.reserved(entry.meta.namespace());
    let is_full = |host: &Host| snapshot.service_of(host).is_some();
    let spelled = entry.hosts.iter().filter(|host| !is_full(host)).filter_map(|host| {
        let in_some_namespace =
            || snapshot.namespaces.keys().find_map(|client| reserved.by_name(host, Some(client)));
        let service = reserved.by_name(host, None).or_else(in_some_namespace)?;
        Some(finding(snapshot, entry, "spec.hosts", &format!("{host} is a name of"), service))
    });
    spelled.collect()
}

fn addresses(snapshot: &Snapshot, entry: &ServiceEntry) -> BTreeSet<Diagnostic> {
    let reserved = snapshot.reserved(entry.meta.namespace());
    let field = "spec.addresses";
    let single = entry.addresses.iter().filter_map(|address| {
        let service = reserved.at(*address)?;
        Some(finding(snapshot, entry, field, &format!("{address} is an address of"), service))
    });
    let ports: BTreeSet<u16> = entry.ports.iter().map(|port| port.number).collect();
    let blocks = entry.blocks.iter().filter_map(|block| {
        let mut within = reserved.within(*block);
        let (address, service) = within.find(|(address, _)| ports.contains(&address.port()))?;
        let what = format!("{block} has {} in it, an address of", address.ip());
        Some(finding(snapshot, entry, field, &what, service))
    });
    single.chain(blocks).collect()
}

fn finding(
    snapshot: &Snapshot,
    entry: &ServiceEntry,
    field: &str,
    what: &str,
    service: &Service,
) -> Diagnostic {
    let (home, service): (&Name, _) = (entry.meta.namespace(), &service.meta.object);
    let outcome = match snapshot.mesh.entries_take_services {
        true => "calls of all clients that see the entry may be taken from it (--allow-service-takeover)"
            .to_owned(),
        false => format!(
            "it stays with that Service, except for clients in {home}: use a name or an address that no Service has"
        ),
    };
    warning(&entry.meta.object, &entry.meta.origin, field, format!("{what} {service}: {outcome} (rule D12)"))
}
