//! The services that a client sees: the owner of each host, and how it describes the host (POLICY.md D11, D12,
//! O1, A8).

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use eastwest_model::{
    Families, Host, Kind, Meta, Name, ObjectRef,
    meta::Created,
    service::{ExportTo, Location, Resolution, Service, ServiceEntry, ServicePort},
};
use ipnet::IpNet;

use crate::{
    ClientScope, Snapshot,
    settings::Discovery,
    trace::{HostReason, Step},
    world::Imported,
};

/// A host as its owner describes it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub host: &'a Host,
    pub owner: &'a Meta,
    /// The Kubernetes Service, if the owner is one.
    pub service: Option<&'a Arc<Service>>,
    /// The ServiceEntries of the owner's namespace for this host, oldest first: they describe it if there is no
    /// Service, and add endpoints and accounts in any case.
    pub entries: Vec<&'a Arc<ServiceEntry>>,
    pub ports: Vec<ServicePort>,
    pub addresses: Vec<IpAddr>,
    pub blocks: Vec<IpNet>,
    /// D12: addresses of the owner are left to Kubernetes Services.
    pub leaves_addresses: bool,
    /// D12: addresses in the blocks that are left to Kubernetes Services, with the ports of these.
    pub spared: Vec<SocketAddr>,
    pub discovery: Discovery,
    /// A1: outside the mesh.
    pub external: bool,
    /// The families of the clients' own addresses.
    pub families: Families,
    /// What became of the other objects that claim the host.
    pub steps: Vec<Step>,
}

impl View<'_> {
    /// The namespace whose policies and rules speak for the host.
    pub(crate) fn namespace(&self) -> &Name {
        self.owner.namespace()
    }
}

/// A claim to a host.
#[derive(Clone, Copy)]
enum Claim<'a> {
    Service(&'a Arc<Service>),
    Entry(&'a Arc<ServiceEntry>),
}

impl<'a> Claim<'a> {
    fn meta(self) -> &'a Meta {
        match self {
            Self::Service(service) => &service.meta,
            Self::Entry(entry) => &entry.meta,
        }
    }

    fn export_to(self) -> &'a ExportTo {
        match self {
            Self::Service(service) => &service.export_to,
            Self::Entry(entry) => &entry.export_to,
        }
    }

    fn ports(self) -> &'a [ServicePort] {
        match self {
            Self::Service(service) => &service.ports,
            Self::Entry(entry) => &entry.ports,
        }
    }

    fn is_kubernetes(self) -> bool {
        matches!(self, Self::Service(_))
    }

    /// Claims exported to named namespaces are looked at before public ones, older before younger.
    fn order(self) -> (bool, Created, &'a Name, &'a Name) {
        let meta = self.meta();
        (is_public(self.export_to()), meta.created, meta.namespace(), meta.name())
    }
}

/// The host as the clients of a scope see it, `None` if they do not.
pub(crate) fn view<'a>(snapshot: &'a Snapshot, scope: &ClientScope, host: &'a Host) -> Option<View<'a>> {
    let egress = scope.egress(snapshot);
    let client = scope.namespace();
    let owners = snapshot.hosts.get(host)?;
    let all: Vec<Claim<'a>> = owners.iter().filter_map(|owner| claim(snapshot, owner)).collect();
    let mut claims: Vec<Claim<'a>> = all
        .iter()
        .copied()
        .filter(|claim| is_visible(claim.export_to(), claim.meta().namespace(), client))
        .filter(|claim| {
            let imported = egress.imported(claim.meta().namespace(), host);
            imported == Imported::All || claim.ports().iter().any(|port| imported.contains(port.number))
        })
        // The costliest question comes last.
        .filter(|claim| !is_left_to_a_service(snapshot, *claim, host, client))
        .collect();
    claims.sort_by(|a, b| a.order().cmp(&b.order()));
    let namespace = owner_of(&claims, client)?.meta().namespace().clone();
    claims.retain(|claim| *claim.meta().namespace() == namespace);
    let mut view = describe(snapshot, host, &claims);
    let imported = egress.imported(&namespace, host);
    view.ports.retain(|port| imported.contains(port.number));
    view.families = scope.families();
    view.steps = all.iter().filter_map(|claim| step(claim.meta(), view.owner, client)).collect();
    leave_addresses(snapshot, &mut view, client);
    Some(view)
}

/// D12: an entry of another namespace than the client's takes no name that a Service of a third one has.
fn is_left_to_a_service(snapshot: &Snapshot, claim: Claim<'_>, host: &Host, client: &Name) -> bool {
    let Claim::Entry(entry) = claim else { return false };
    let reserved = snapshot.reserved_from(entry.meta.namespace(), client);
    reserved.is_some_and(|reserved| reserved.by_name(host, Some(client)).is_some())
}

/// D12: nor addresses of Services.
fn leave_addresses(snapshot: &Snapshot, view: &mut View<'_>, client: &Name) {
    if view.service.is_some() {
        return;
    }
    let owner = view.owner;
    let Some(reserved) = snapshot.reserved_from(owner.namespace(), client) else { return };
    let mut services: BTreeSet<&ObjectRef> = BTreeSet::new();
    let mut is_left = |address: &IpAddr| {
        let service = reserved.at(*address);
        services.extend(service.map(|service| &service.meta.object));
        service.is_some()
    };
    let before = view.addresses.len();
    view.addresses.retain(|address| !is_left(address));
    view.leaves_addresses = view.addresses.len() < before;
    let within = view.blocks.iter().flat_map(|block| reserved.within(*block));
    let spared = within.filter(|(address, _)| view.ports.iter().any(|port| port.number == address.port()));
    let spared: BTreeSet<SocketAddr> = spared
        .map(|(address, service)| {
            services.insert(&service.meta.object);
            address
        })
        .collect();
    view.spared = spared.into_iter().collect();
    // One of them is enough to tell the reason.
    view.steps.extend(services.first().map(|service| {
        Step::of(owner, HostReason::LeavesAddresses { service: (*service).clone(), client: client.clone() })
    }));
}

/// D11: what a claim comes to beside the owner's.
fn step(claimant: &Meta, owner: &Meta, client: &Name) -> Option<Step> {
    if claimant.object == owner.object {
        return None;
    }
    let same_namespace = claimant.namespace() == owner.namespace();
    let owner = owner.object.clone();
    Some(Step::of(
        claimant,
        match same_namespace {
            true => HostReason::AddsTo { owner },
            false => HostReason::OwnedBy { owner, client: client.clone() },
        },
    ))
}

/// Every host that the clients of a scope see, in order.
pub(crate) fn views<'a>(
    snapshot: &'a Snapshot,
    scope: &'a ClientScope,
) -> impl Iterator<Item = View<'a>> + 'a {
    snapshot.hosts().filter_map(move |host| view(snapshot, scope, host))
}

fn claim<'a>(snapshot: &'a Snapshot, owner: &ObjectRef) -> Option<Claim<'a>> {
    let space = snapshot.namespace(&owner.namespace);
    match owner.kind {
        Kind::Service => space.services.get(&owner.name).map(Claim::Service),
        Kind::ServiceEntry => space.service_entries.get(&owner.name).map(Claim::Entry),
        _ => None,
    }
}

fn is_public(export_to: &ExportTo) -> bool {
    match export_to {
        ExportTo::Default => true,
        ExportTo::Set(set) => set.contains("*"),
    }
}

/// Whether an object of a namespace can be seen from another one: no list or `*`, `.` at home, or the name.
pub(crate) fn is_visible(export_to: &ExportTo, home: &str, client: &str) -> bool {
    match export_to {
        ExportTo::Default => true,
        ExportTo::Set(set) => {
            set.contains("*") || set.contains(client) || (set.contains(".") && home == client)
        }
    }
}

/// D11: the first claim counts, unless a later one is in the client's own namespace, or is a Kubernetes Service
/// against a ServiceEntry that is not in the client's namespace.
fn owner_of<'a>(claims: &[Claim<'a>], client: &Name) -> Option<Claim<'a>> {
    claims.iter().copied().reduce(|present, next| {
        let at_home = |claim: Claim<'_>| claim.meta().namespace() == client;
        let kubernetes_first = next.is_kubernetes() && !present.is_kubernetes() && !at_home(present);
        if at_home(next) || kubernetes_first { next } else { present }
    })
}

/// The claims of one namespace, combined. A Service describes the host alone. Of ServiceEntries the oldest does, and
/// the younger ones add ports if they agree in all else.
fn describe<'a>(snapshot: &'a Snapshot, host: &'a Host, claims: &[Claim<'a>]) -> View<'a> {
    let first = claims.iter().copied().find(|claim| claim.is_kubernetes()).unwrap_or(claims[0]);
    let space = snapshot.namespace(first.meta().namespace());
    let owners = snapshot.hosts.get(host).into_iter().flatten();
    let mut entries: Vec<_> = owners
        .filter(|owner| owner.kind == Kind::ServiceEntry && owner.namespace == *first.meta().namespace())
        .filter_map(|owner| space.service_entries.get(&owner.name))
        .collect();
    entries.sort_by_key(|entry| entry.meta.age_key());
    match first {
        Claim::Service(service) => View {
            host,
            owner: &service.meta,
            service: Some(service),
            entries,
            ports: service.ports.clone(),
            addresses: service.cluster_ips.clone(),
            blocks: Vec::new(),
            leaves_addresses: false,
            spared: Vec::new(),
            discovery: if service.headless { Discovery::OriginalDst } else { Discovery::Eds },
            external: false,
            families: Families::default(),
            steps: Vec::new(),
        },
        Claim::Entry(entry) => View {
            host,
            owner: &entry.meta,
            service: None,
            entries,
            ports: joined_ports(entry, claims),
            addresses: entry.addresses.clone(),
            blocks: entry.blocks.clone(),
            leaves_addresses: false,
            spared: Vec::new(),
            discovery: discovery(entry, host),
            external: entry.location == Location::External,
            families: Families::default(),
            steps: Vec::new(),
        },
    }
}

fn joined_ports(first: &Arc<ServiceEntry>, claims: &[Claim<'_>]) -> Vec<ServicePort> {
    let mut ports = first.ports.clone();
    for claim in claims {
        let Claim::Entry(entry) = claim else { continue };
        let agrees = entry.resolution == first.resolution
            && entry.workload_selector == first.workload_selector
            && entry.export_to == first.export_to
            && entry.meta.labels == first.meta.labels;
        for port in entry.ports.iter().filter(|_| agrees) {
            if ports.iter().all(|known| known.number != port.number) {
                ports.push(port.clone());
            }
        }
    }
    ports
}

/// O1: how the endpoints of a ServiceEntry's host are found.
fn discovery(entry: &ServiceEntry, host: &Host) -> Discovery {
    match entry.resolution {
        Resolution::None => Discovery::OriginalDst,
        Resolution::Dns => Discovery::StrictDns,
        Resolution::DnsRoundRobin => Discovery::LogicalDns,
        Resolution::DynamicDns if host.wildcard_suffix().is_some() => Discovery::DynamicForwardProxy,
        Resolution::Static | Resolution::DynamicDns => Discovery::Eds,
    }
}

/// Name and namespace of a host that is named like a Service, whatever object describes it (D11).
pub(crate) fn local_name<'a>(snapshot: &Snapshot, host: &'a Host) -> Option<(&'a str, &'a str)> {
    let local = host.as_str().strip_suffix(&*snapshot.mesh.cluster_domain)?.strip_suffix(".svc.")?;
    local.split_once('.').filter(|(name, namespace)| !name.starts_with('*') && !namespace.contains('.'))
}
