//! Names as DNS in the cluster would answer them, and names that come close.

use std::{collections::BTreeSet, net::IpAddr};

use eastwest_model::{Families, Family, Host, WorkloadKey, edit_distance, service::Service};
use ipnet::IpNet;

use crate::{
    ClientScope, Snapshot,
    compute::{
        endpoints,
        registry::{self, View},
    },
};

/// How many similar names an error lists.
const MAX_SUGGESTIONS: usize = 5;

/// The full names that a name may stand for, as DNS would try them in a namespace: first the name itself, then longer
/// ones.
pub(crate) fn candidates(snapshot: &Snapshot, namespace: &str, name: &str) -> Vec<Host> {
    let domain = &snapshot.mesh.cluster_domain;
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

/// A name with a dot that names neither the cluster's domain nor one of its namespaces.
pub(super) fn is_outside(snapshot: &Snapshot, name: &str) -> bool {
    let local = name.ends_with(&format!(".{}", snapshot.mesh.cluster_domain)) || name.ends_with(".svc");
    let in_namespace = name.split('.').nth(1).is_some_and(|label| snapshot.namespaces.contains_key(label));
    name.contains('.') && !local && !in_namespace
}

/// The addresses of a host, for clients with addresses of these families: `None` = some address that nothing in the mesh
/// has. Empty = there is no answer.
pub(super) fn addresses(
    snapshot: &Snapshot,
    host: &Host,
    view: Option<&View<'_>>,
    families: Families,
) -> Vec<Option<IpAddr>> {
    match (snapshot.service_of(host), view) {
        (Some(service), _) if service.external_name.is_some() => Vec::new(),
        (Some(service), _) if service.headless => {
            let backends = endpoints::of_kubernetes(snapshot, service);
            of_pods(backends.iter().map(|one| (one.ready, one.ip())), families)
        }
        (Some(service), _) if service.cluster_ips.is_empty() => vec![None],
        (Some(service), _) => service.cluster_ips.iter().copied().map(Some).collect(),
        (None, Some(view)) => of_entry(&view.addresses, &view.blocks),
        (None, None) => vec![None],
    }
}

/// The addresses of a ServiceEntry. Nobody but the entry knows them: a call to its name is taken for one to its first
/// address of each family.
pub(super) fn of_entry(single: &[IpAddr], blocks: &[IpNet]) -> Vec<Option<IpAddr>> {
    let in_blocks = blocks.iter().filter_map(|block| block.hosts().next());
    let all: Vec<IpAddr> = single.iter().copied().chain(in_blocks).collect();
    let of_family = |family| all.iter().copied().find(|one| Family::of(*one) == family);
    let found: Vec<_> = [Family::IPv4, Family::IPv6].into_iter().filter_map(of_family).map(Some).collect();
    if found.is_empty() { vec![None] } else { found }
}

/// The addresses of the endpoints that take requests, or if none does, of all of them. Each is ready or not, with its
/// address. A client asks for addresses of its own families; if there is none, this tells those that there are.
pub(super) fn of_pods(
    endpoints: impl Iterator<Item = (bool, Option<IpAddr>)>,
    families: Families,
) -> Vec<Option<IpAddr>> {
    let known = endpoints.filter_map(|(ready, ip)| Some((ready, ip?)));
    let (within, beyond): (Vec<_>, Vec<_>) = known.partition(|(_, ip)| families.contain(*ip));
    let asked = if within.is_empty() { beyond } else { within };
    let (ready, others): (BTreeSet<_>, BTreeSet<_>) = asked.into_iter().partition(|(ready, _)| *ready);
    let answer = if ready.is_empty() { others } else { ready };
    answer.into_iter().map(|(_, ip)| Some(ip)).collect()
}

/// The headless Service that a name of a pod is below, and the addresses of that pod.
pub(super) fn pod<'a>(snapshot: &'a Snapshot, name: &Host) -> Option<(&'a Service, Vec<IpAddr>)> {
    let (label, service) = name.as_str().split_once('.')?;
    let service = snapshot.service_of(&Host::new(service)).filter(|service| service.headless)?;
    let backends = endpoints::of_kubernetes(snapshot, service);
    let is_it = |key: &WorkloadKey| match snapshot.workload(key) {
        // A StatefulSet without Pods stands for those that it will have; the Pods of other templates have names by chance.
        Some(template) if template.meta.object.kind.has_template() => {
            let below = template.replicas.as_ref().and_then(|replicas| replicas.service.as_ref());
            below == Some(service.meta.name()) && template.has_replica(label)
        }
        _ => &*key.name == label,
    };
    let named = backends.iter().filter(|one| one.workload.as_ref().is_some_and(is_it));
    let mut found: Vec<IpAddr> = named.filter_map(|one| one.ip()).collect();
    found.sort();
    found.dedup();
    (!found.is_empty()).then_some((&**service, found))
}

/// The headless Service that a name is below, the first label of the name, and the names of the pods there, a range for
/// those that a template stands for.
pub(super) fn below_headless<'a>(
    snapshot: &Snapshot,
    name: &'a Host,
) -> Option<(&'a str, Host, Vec<String>)> {
    let (label, service) = name.as_str().split_once('.')?;
    let host = Host::new(service);
    let service = snapshot.service_of(&host).filter(|service| service.headless)?;
    let backends = endpoints::of_kubernetes(snapshot, service);
    let keys: BTreeSet<_> = backends.iter().filter_map(|one| one.workload.as_ref()).collect();
    let names = keys.into_iter().filter_map(|key| match snapshot.workload(key) {
        Some(template) if template.meta.object.kind.has_template() => template.replicas.as_ref().map(|one| {
            let (name, first) = (&key.name, one.first);
            match one.count {
                1 => format!("{name}-{first}"),
                count => {
                    format!("{name}-{first} to {name}-{}", first.saturating_add(count.saturating_sub(1)))
                }
            }
        }),
        _ => Some(key.name.to_string()),
    });
    Some((label, host, names.collect()))
}

/// The hosts whose names come close to `asked`, nearest first.
pub(super) fn similar(snapshot: &Snapshot, scope: &ClientScope, asked: &str) -> Vec<Host> {
    let candidates = candidates(snapshot, scope.namespace(), asked);
    let far = |a: &str, b: &str| edit_distance(a.as_bytes(), b.as_bytes());
    let (name, namespace) = first_labels(asked);
    let distance = |host: &Host| {
        let whole = candidates.iter().map(|name| far(name.as_str(), host.as_str())).min();
        // The name counts more than the namespace, which may be left out or be another one.
        let (known, place) = first_labels(host.as_str());
        let elsewhere = namespace.is_some() && namespace != place;
        whole.unwrap_or(usize::MAX).min(2 * far(name, known) + if elsewhere { 3 } else { 0 })
    };
    let mut near: Vec<(usize, Host)> =
        registry::views(snapshot, scope).map(|view| (distance(view.host), view.host.clone())).collect();
    near.sort();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, _)| *distance <= best + 2 && *distance <= 1 + asked.len() / 2);
    near.into_iter().map(|(_, host)| host).take(MAX_SUGGESTIONS).collect()
}

/// The first label of a name, and the second.
fn first_labels(name: &str) -> (&str, Option<&str>) {
    let mut labels = name.split('.');
    (labels.next().unwrap_or_default(), labels.next())
}
