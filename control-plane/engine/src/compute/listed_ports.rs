//! The container ports that Services or a Sidecar list for a workload, with what they carry (POLICY.md P8, I1).

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    Host, Kind, Name, Workload,
    meta::Created,
    service::{EndpointSlice, Protocol, Service, ServicePort, SliceEndpoint, TargetPort},
};

use crate::{
    Snapshot,
    world::{Namespace, sidecar_of},
};

/// The listed ports: those of a Sidecar's `ingress` alone if it has any, else of every Service and ServiceEntry that
/// has the workload behind it. Of two that share a container port, the protocol of the oldest counts (I1).
pub(crate) fn of(snapshot: &Snapshot, workload: &Workload) -> BTreeMap<u16, Protocol> {
    let ingress = sidecar_of(snapshot, workload).map(|sidecar| &sidecar.ingress);
    if let Some(ingress) = ingress.filter(|ports| !ports.is_empty()) {
        return ingress.iter().rev().map(|port| (port.number, port.protocol)).collect();
    }
    let mut listings = listings(snapshot, workload);
    listings.sort_by(|a, b| b.age.cmp(&a.age));
    listings.into_iter().flat_map(|listing| listing.ports.into_iter().rev()).collect()
}

/// The Service port that leads to a port of a workload, of the oldest Service that has one.
pub(crate) fn service_port(snapshot: &Snapshot, workload: &Workload, port: u16) -> Option<(Host, u16)> {
    let space = snapshot.namespace(workload.meta.namespace());
    let leads_here = |service: &&Arc<Service>| {
        service.ports.iter().find(|one| target_port(workload, one) == Some(port)).map(|one| one.number)
    };
    let services = space.services.selecting(&workload.meta.labels);
    let found = services.filter_map(|service| Some((leads_here(&service)?, service)));
    let (number, service) = found.min_by_key(|(_, service)| age(&service.meta))?;
    Some((snapshot.host_of(&service.meta.object), number))
}

/// The ports of one Service or ServiceEntry on the workload.
struct Listing {
    age: (Created, Name, Name),
    ports: Vec<(u16, Protocol)>,
}

fn listings(snapshot: &Snapshot, workload: &Workload) -> Vec<Listing> {
    let space = snapshot.namespace(workload.meta.namespace());
    let labels = &workload.meta.labels;
    let services = space.services.selecting(labels).filter(|service| {
        // A5: WorkloadEntries join Services with a cluster IP only.
        takes_workload_entries(service) || workload.is_pod()
    });
    let selected = services.map(|service| Listing {
        age: age(&service.meta),
        ports: resolve(&service.ports, |port| target_port(workload, port)),
    });
    let manual_slices = manual_slices(space, workload);
    let entries = space.service_entries.selecting(labels).map(|entry| Listing {
        age: age(&entry.meta),
        ports: resolve(&entry.ports, |port| Some(entry_port(workload, port))),
    });
    selected.chain(manual_slices).chain(entries).collect()
}

fn age(meta: &eastwest_model::Meta) -> (Created, Name, Name) {
    (meta.created, meta.name().clone(), meta.namespace().clone())
}

fn resolve(ports: &[ServicePort], target: impl Fn(&ServicePort) -> Option<u16>) -> Vec<(u16, Protocol)> {
    ports.iter().filter_map(|port| Some((target(port)?, port.protocol))).collect()
}

/// Services without a selector, whose slices someone wrote by hand and which point to the workload: by name, or by
/// address where no name is given.
fn manual_slices(space: &Namespace, workload: &Workload) -> Vec<Listing> {
    let is_pod = workload.meta.object.kind == Kind::Pod;
    let named = space.slices.of_pod(workload.meta.name()).filter(|_| is_pod);
    let addresses = workload.addresses.iter().filter(|_| !workload.ended);
    let addressed = addresses.flat_map(|address| {
        let nameless = move |one: &SliceEndpoint| one.pod.is_none() && one.addresses.contains(address);
        space.slices.of_address(*address).filter(move |slice| slice.endpoints.iter().any(nameless))
    });
    let listing = |slice: &EndpointSlice| {
        let service = space.services.get(&slice.service)?;
        let unselective = service.selector.as_ref().is_none_or(|selector| selector.is_empty());
        unselective.then(|| Listing {
            age: age(&service.meta),
            ports: resolve(&service.ports, |port| slice.ports.get(&port.name).copied()),
        })
    };
    named.chain(addressed).filter_map(|slice| listing(slice)).collect()
}

/// P8: where a Service port leads on one workload. A named port counts as the number that this workload gives it.
pub(crate) fn target_port(workload: &Workload, port: &ServicePort) -> Option<u16> {
    match (&port.target, workload.is_pod()) {
        (TargetPort::Number(number), true) => Some(*number),
        (TargetPort::Named(name), true) => {
            let ports = workload.container_ports.iter();
            ports.filter(|one| one.name.as_ref() == Some(name)).map(|one| one.port).next()
        }
        // A WorkloadEntry lists its ports by the name of the Service port or of the target.
        (TargetPort::Number(number), _) => {
            Some(workload.port_overrides.get(&port.name).copied().unwrap_or(*number))
        }
        (TargetPort::Named(name), _) => workload.port_overrides.get(name).copied(),
    }
}

/// A4: the port of a ServiceEntry that is dialled on a workload: the workload's own number for the port's name, be
/// it from a WorkloadEntry's `ports` or a container port of that name, else `targetPort`.
pub(crate) fn entry_port(workload: &Workload, port: &ServicePort) -> u16 {
    let mut named = workload.container_ports.iter().filter(|one| one.name.as_ref() == Some(&port.name));
    let own = workload.port_overrides.get(&port.name).copied().or_else(|| named.next().map(|one| one.port));
    own.unwrap_or_else(|| number(port))
}

/// The numeric target of a ServiceEntry port, the port itself if none is given.
pub(super) fn number(port: &ServicePort) -> u16 {
    match port.target {
        TargetPort::Number(number) => number,
        TargetPort::Named(_) => port.number,
    }
}

/// Whether WorkloadEntries may be behind a Service (A5).
pub(super) fn takes_workload_entries(service: &Service) -> bool {
    !service.headless && service.external_name.is_none()
}
