//! Services and Sidecars that name what is not there.

use std::collections::BTreeSet;

use eastwest_model::{
    Diagnostic, Host, Name,
    service::{Service, Sidecar, TargetPort},
};

use super::warning;
use crate::{Snapshot, calls::candidates};

/// Names of container ports that no selected Pod has, and hosts of a Sidecar that no object describes.
pub(super) fn findings(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for space in snapshot.namespaces.values() {
        found.extend(space.services.values().flat_map(|service| unknown_target_ports(snapshot, service)));
        found.extend(space.sidecars.values().flat_map(|sidecar| empty_imports(snapshot, sidecar)));
    }
    found
}

/// P8: a named port counts as the number that the Pod gives it, and a Pod without that name is no endpoint.
fn unknown_target_ports(snapshot: &Snapshot, service: &Service) -> Vec<Diagnostic> {
    let space = snapshot.namespace(service.meta.namespace());
    let selector = service.selector.as_ref().filter(|selector| !selector.is_empty());
    let pods: Vec<_> = selector.into_iter().flat_map(|selector| space.workloads.selected(selector)).collect();
    let container_ports =
        pods.iter().flat_map(|pod| pod.container_ports.iter().filter_map(|port| port.name.as_ref()));
    let named: BTreeSet<&Name> =
        container_ports.chain(pods.iter().flat_map(|one| one.port_overrides.keys())).collect();
    let finding = |port: &eastwest_model::service::ServicePort| {
        let TargetPort::Named(name) = &port.target else { return None };
        let missing = !pods.is_empty() && !named.contains(name);
        let message = format!(
            "no workload that it selects has a container port named {name:?}, so nothing is behind port {}: {}",
            port.number,
            names(&named)
        );
        missing.then(|| warning(&service.meta.object, &service.meta.origin, "spec.ports.targetPort", message))
    };
    service.ports.iter().filter_map(finding).collect()
}

/// The names that a `targetPort` may have.
fn names(known: &BTreeSet<&Name>) -> String {
    let known: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
    match known.as_slice() {
        [] => "their container ports have no names, so write the number or name the port".to_owned(),
        known => format!("they have {}", known.join(", ")),
    }
}

/// A8: `egress` hosts that import nothing. Whole namespaces may be empty.
fn empty_imports(snapshot: &Snapshot, sidecar: &Sidecar) -> Vec<Diagnostic> {
    let own = sidecar.meta.namespace();
    let is_own = |namespace: &str, from: &Name| match namespace {
        "*" => true,
        "." => from == own || *own == snapshot.mesh.root_namespace,
        name => *name == **from,
    };
    let imports = |namespace: &str, pattern: &Host| {
        let mut covered = snapshot.hosts.iter().filter(|(host, _)| pattern.covers(host));
        covered.any(|(_, owners)| owners.iter().any(|owner| is_own(namespace, &owner.namespace)))
    };
    let hosts = sidecar.egress.iter().flat_map(|listener| &listener.hosts);
    let empty = hosts.filter(|(namespace, pattern)| {
        !namespace.starts_with('~') && pattern.as_str() != "*" && !imports(namespace, pattern)
    });
    let finding = |(namespace, pattern): &(Name, Host)| {
        let message = format!(
            "{namespace}/{pattern} imports nothing{} (rule A8)",
            meant(snapshot, own, namespace, pattern)
        );
        warning(&sidecar.meta.object, &sidecar.meta.origin, "spec.egress.hosts", message)
    };
    empty.map(finding).collect()
}

/// The full name of a Service, where a part of it was written.
fn meant(snapshot: &Snapshot, own: &Name, namespace: &str, pattern: &Host) -> String {
    let of = if namespace == "." { &**own } else { namespace };
    let mut longer = candidates(snapshot, of, pattern.as_str()).into_iter().skip(1);
    match longer.find(|host| snapshot.hosts.contains_key(host)) {
        Some(host) => format!(": a host is taken literally, write {namespace}/{host}"),
        None => ": no object describes such a host there".to_owned(),
    }
}
