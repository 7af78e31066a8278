//! The endpoints behind a host, from slices, Pods, WorkloadEntries and inline lists, with what the mesh knows of each.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use eastwest_model::{
    Families, Family, Kind, Labels, Name, Workload, WorkloadKey,
    service::{EndpointSlice, EntryEndpoint, Resolution, Service, ServiceEntry, ServicePort},
    workload::TLS_MODE_LABEL,
};

use super::{listed_ports, registry::View};
use crate::{Snapshot, settings::EndpointAddress, world::Namespace};

/// The label of an endpoint that tells whether it takes mutual TLS (POLICY.md A4, A5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `istio`: its proxy takes mutual TLS.
    Istio,
    /// `disabled`, or no label.
    Disabled,
    /// Any other value: no mark behind a load balancer (A4), a member behind the original destination (A5).
    Other,
}

/// One endpoint of one service port.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// The service port, by name.
    pub port_name: Name,
    pub address: EndpointAddress,
    pub labels: Arc<Labels>,
    pub mark: Mark,
    pub account: Option<Name>,
    pub ready: bool,
    pub weight: u32,
    pub workload: Option<WorkloadKey>,
}

impl Backend {
    /// What is called by its own address: a workload, or what nobody knows.
    pub(crate) fn of_address(workload: Option<&Arc<Workload>>, address: IpAddr, port: u16) -> Self {
        at_socket(&"".into(), address, port, workload, workload.is_none_or(|one| one.ready))
    }

    /// The same endpoint, called at another port.
    pub(crate) fn at_port(&self, port: u16) -> Self {
        let address = match &self.address {
            EndpointAddress::Socket(socket) => EndpointAddress::Socket(SocketAddr::new(socket.ip(), port)),
            EndpointAddress::Dns { host, .. } => EndpointAddress::Dns { host: host.clone(), port },
        };
        Self { address, ..self.clone() }
    }

    /// The address that is dialled, unless it is a name.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.ip()
    }

    /// The port that is dialled.
    pub(crate) fn port(&self) -> u16 {
        match &self.address {
            EndpointAddress::Socket(socket) => socket.port(),
            EndpointAddress::Dns { port, .. } => *port,
        }
    }
}

/// Every endpoint of a host, of all ports, ready or not; one for each port and address, sorted.
pub(crate) fn of(snapshot: &Snapshot, view: &View<'_>) -> Vec<Backend> {
    let space = snapshot.namespace(view.namespace());
    let of_service = view.service.into_iter().flat_map(|service| of_service(space, service));
    let of_entries = view.entries.iter().flat_map(|entry| of_entry(space, entry, view));
    each_once(of_service.chain(of_entries))
}

/// The endpoints of a Kubernetes Service, whoever sees it; ordered like those of [`of`].
pub(crate) fn of_kubernetes(snapshot: &Snapshot, service: &Service) -> Vec<Backend> {
    each_once(of_service(snapshot.namespace(service.meta.namespace()), service).into_iter())
}

/// What the clients of a scope dial of some endpoints of one port: those of the clients' families. If there is none, all
/// stay, for what lies between may translate (POLICY.md L9).
pub(crate) fn within<'a>(
    backends: impl Iterator<Item = &'a Backend>,
    families: Families,
) -> Vec<&'a Backend> {
    let is_within = |backend: &&Backend| backend.ip().is_none_or(|address| families.contain(address));
    let (inside, outside): (Vec<_>, Vec<_>) = backends.partition(is_within);
    if inside.is_empty() { outside } else { inside }
}

fn each_once(backends: impl Iterator<Item = Backend>) -> Vec<Backend> {
    let mut found: BTreeMap<(Name, EndpointAddress), Backend> = BTreeMap::new();
    for backend in backends {
        match found.entry((backend.port_name.clone(), backend.address.clone())) {
            Entry::Vacant(place) => drop(place.insert(backend)),
            // Two slices may have an endpoint while it moves, and a Pod that ends may share its node's address with its
            // successor: one of them that takes requests is enough.
            Entry::Occupied(mut known) if backend.ready && !known.get().ready => drop(known.insert(backend)),
            Entry::Occupied(_) => {}
        }
    }
    found.into_values().collect()
}

fn of_service(space: &Namespace, service: &Service) -> Vec<Backend> {
    let mut slices = space.slices.of_service(service.meta.name()).peekable();
    let written = slices.peek().is_some();
    let mut found: Vec<Backend> = slices.flat_map(|slice| of_slice(space, slice)).collect();
    let selector = service.selector.as_ref().filter(|selector| !selector.is_empty());
    for workload in selector.into_iter().flat_map(|selector| space.workloads.selected(selector)) {
        let joins = match workload.meta.object.kind {
            // A5: WorkloadEntries join Services with a cluster IP only.
            Kind::WorkloadEntry => listed_ports::takes_workload_entries(service),
            // Without any slice, the matching Pods are the endpoints.
            _ => !written,
        };
        if joins {
            for address in addresses_for(service, workload) {
                let ready = workload.ready || service.publish_not_ready && workload.is_pod();
                let backends = at_address(workload, address, &service.ports, listed_ports::target_port);
                found.extend(backends.into_iter().map(|backend| Backend { ready, ..backend }));
            }
        }
    }
    found
}

/// A4: an address that names a Pod is that Pod, and nothing as long as it is unknown; an address that names none is
/// the Pod with that IP in the same namespace, whichever of the two came first.
fn of_slice(space: &Namespace, slice: &EndpointSlice) -> Vec<Backend> {
    let mut found = Vec::new();
    for endpoint in &slice.endpoints {
        let named = endpoint.pod.as_ref().map(|name| space.workloads.pod(name));
        if named == Some(None) {
            continue;
        }
        for address in &endpoint.addresses {
            for (name, port) in endpoint.ports.as_ref().unwrap_or(&slice.ports) {
                let pod = named.unwrap_or_else(|| pod_at(space, *address, *port));
                found.push(at_socket(name, *address, *port, pod, endpoint.ready));
            }
        }
    }
    found
}

/// The Pod at an address. Pods in the network of their node share its address: of several, the first by name that
/// declares the port, else the first by name.
fn pod_at(space: &Namespace, address: IpAddr, port: u16) -> Option<&Arc<Workload>> {
    let there = || space.workloads.at_address(address).filter(|one| one.meta.object.kind == Kind::Pod);
    let declares = |pod: &&Arc<Workload>| pod.container_ports.iter().any(|one| one.port == port);
    there().find(declares).or_else(|| there().next())
}

fn at_socket(name: &Name, address: IpAddr, port: u16, pod: Option<&Arc<Workload>>, ready: bool) -> Backend {
    Backend {
        port_name: name.clone(),
        address: EndpointAddress::Socket(SocketAddr::new(address, port)),
        labels: pod.map(|pod| pod.meta.labels.clone()).unwrap_or_default(),
        mark: pod.map_or(Mark::Disabled, |pod| mark_of_workload(pod)),
        account: pod.and_then(|pod| pod.service_account.clone()),
        ready,
        weight: 0,
        workload: pod.map(|pod| pod.key()),
    }
}

/// The addresses under which a workload is behind a Service: of a Pod one for each family of the Service, as the slices
/// that a cluster would make of it.
fn addresses_for<'a>(service: &Service, workload: &'a Workload) -> Vec<Reached<'a>> {
    if !workload.is_pod() || service.families.is_empty() {
        return reached(workload, Families::Both).into_iter().collect();
    }
    let of_family =
        |family: &Family| workload.addresses.iter().find(|address| Family::of(**address) == *family);
    service.families.iter().filter_map(of_family).filter(|_| !workload.ended).map(|one| Ok(*one)).collect()
}

/// An address, or a host name.
type Reached<'a> = Result<IpAddr, &'a Name>;

/// Where clients with addresses of these families reach a workload, if anywhere: at its first address that they can
/// dial, else at its first one.
fn reached(workload: &Workload, families: Families) -> Option<Reached<'_>> {
    let within = workload.addresses.iter().find(|address| families.contain(**address));
    match (within.or(workload.addresses.first()), &workload.dns_address) {
        _ if workload.ended => None,
        (Some(address), _) => Some(Ok(*address)),
        (None, host) => host.as_ref().map(Err),
    }
}

/// The endpoints that one workload is, one for each port that it has.
fn of_workload(
    workload: &Arc<Workload>,
    families: Families,
    ports: &[ServicePort],
    target: impl Fn(&Workload, &ServicePort) -> Option<u16>,
) -> Vec<Backend> {
    reached(workload, families)
        .map(|address| at_address(workload, address, ports, target))
        .unwrap_or_default()
}

fn at_address(
    workload: &Arc<Workload>,
    address: Reached<'_>,
    ports: &[ServicePort],
    target: impl Fn(&Workload, &ServicePort) -> Option<u16>,
) -> Vec<Backend> {
    let backend = |port: &ServicePort| {
        let number = target(workload, port)?;
        Some(Backend {
            port_name: port.name.clone(),
            address: match address {
                Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, number)),
                Err(host) => EndpointAddress::Dns { host: host.clone(), port: number },
            },
            labels: workload.meta.labels.clone(),
            mark: mark_of_workload(workload),
            account: workload.service_account.clone(),
            ready: workload.ready,
            weight: workload.weight,
            workload: Some(workload.key()),
        })
    };
    ports.iter().filter_map(backend).collect()
}

fn of_entry(space: &Namespace, entry: &ServiceEntry, view: &View<'_>) -> Vec<Backend> {
    let mut found: Vec<Backend> = Vec::new();
    for port in &entry.ports {
        found.extend(entry.endpoints.iter().filter_map(|endpoint| of_inline(endpoint, port)));
        if is_own_endpoint(entry) {
            let address =
                EndpointAddress::Dns { host: view.host.as_str().into(), port: listed_ports::number(port) };
            found.push(outsider(port, address));
        }
    }
    let selector = entry.workload_selector.as_ref();
    let selected = selector.into_iter().flat_map(|selector| space.workloads.selected(selector));
    // A Pod that is not ready has no slice to say so here: it is no endpoint yet.
    for workload in selected.filter(|workload| workload.ready) {
        let port = |workload: &Workload, port: &ServicePort| Some(listed_ports::entry_port(workload, port));
        found.extend(of_workload(workload, view.families, &entry.ports, port));
    }
    found
}

/// A DNS host without endpoints is its own endpoint.
fn is_own_endpoint(entry: &ServiceEntry) -> bool {
    entry.endpoints.is_empty()
        && entry.workload_selector.is_none()
        && matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
}

fn outsider(port: &ServicePort, address: EndpointAddress) -> Backend {
    Backend {
        port_name: port.name.clone(),
        address,
        labels: Arc::default(),
        mark: Mark::Disabled,
        account: None,
        ready: true,
        weight: 0,
        workload: None,
    }
}

fn of_inline(endpoint: &EntryEndpoint, port: &ServicePort) -> Option<Backend> {
    let number = endpoint.ports.get(&port.name).copied().unwrap_or_else(|| listed_ports::number(port));
    let written = endpoint.address.as_ref()?;
    let address = match written.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, number)),
        Err(_) => EndpointAddress::Dns { host: written.clone(), port: number },
    };
    Some(Backend {
        labels: Arc::new(endpoint.labels.clone()),
        mark: mark_of(&endpoint.labels, endpoint.service_account.is_some()),
        account: endpoint.service_account.clone(),
        weight: endpoint.weight,
        ..outsider(port, address)
    })
}

/// A4: whether a workload has a proxy of the mesh.
pub(crate) fn mark_of_workload(workload: &Workload) -> Mark {
    mark_of(&workload.meta.labels, is_member(workload))
}

/// A4: a WorkloadEntry with a service account is a member of the mesh unless its label says otherwise, and so is a Pod with
/// a container `istio-proxy`, to which the injector would have given the label.
fn is_member(workload: &Workload) -> bool {
    workload.sidecar || !workload.is_pod() && workload.service_account.is_some()
}

/// A4: the label decides, where there is one.
fn mark_of(labels: &Labels, member_without_label: bool) -> Mark {
    match labels.get(TLS_MODE_LABEL).map(|value| &**value) {
        Some("istio") => Mark::Istio,
        None if member_without_label => Mark::Istio,
        Some("disabled") | None => Mark::Disabled,
        Some(_) => Mark::Other,
    }
}
