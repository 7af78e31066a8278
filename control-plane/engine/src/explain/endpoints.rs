//! The endpoints that a call meets, each seen from both sides.

use std::net::IpAddr;

use eastwest_model::{Name, service::Service};

use super::EndpointExplanation;
use crate::{
    Snapshot,
    calls::Caller,
    compute::{
        credentials,
        endpoints::{self as backends, Backend},
        registry::{self, View},
    },
    pair::{self, ConnectionOutcome, ConnectionReason, Pair},
    settings::{ClientTlsSetting, Discovery, Endpoint, EndpointAddress, OutboundCluster},
    world::is_placeholder,
};

/// Both sides of every endpoint of a cluster, called by the name of its host with the setting `tls`.
pub(crate) fn of_cluster(
    snapshot: &Snapshot,
    view: &View<'_>,
    all: &[Backend],
    cluster: &OutboundCluster,
    tls: &ClientTlsSetting,
) -> Vec<EndpointExplanation> {
    let side = Side { snapshot, namespace: view.namespace(), cluster, tls };
    dialled_by_name(view, all, cluster).iter().filter_map(|backend| side.explained(backend)).collect()
}

/// The endpoints of a cluster as its proxies dial them. Where the caller's address is dialled, so is its port: that of
/// the Service, on a pod of a headless one (O1). An address of a Service leads on to its endpoints.
fn dialled_by_name(view: &View<'_>, all: &[Backend], cluster: &OutboundCluster) -> Vec<Backend> {
    let of_port = all.iter().filter(|backend| backend.port_name == cluster.port.name);
    let dialled = backends::within(of_port, view.families).into_iter();
    match (cluster.discovery, view.service) {
        (Discovery::OriginalDst, Some(service)) if service.headless => {
            dialled.map(|backend| backend.at_port(cluster.port.number)).collect()
        }
        (Discovery::OriginalDst, None) => Vec::new(),
        _ => dialled.cloned().collect(),
    }
}

/// Both sides of the endpoints that a call to some addresses meets through a cluster.
pub(super) fn of_call(
    caller: &Caller<'_>,
    cluster: &OutboundCluster,
    addresses: &[Option<IpAddr>],
    tls: &ClientTlsSetting,
) -> Vec<EndpointExplanation> {
    let snapshot = caller.snapshot;
    let held = snapshot.hosts.get_key_value(&cluster.host).map(|(host, _)| host);
    let Some(view) = held.and_then(|host| registry::view(snapshot, caller.scope, host)) else {
        return Vec::new();
    };
    let all = backends::of(snapshot, &view);
    if cluster.discovery != Discovery::OriginalDst {
        return of_cluster(snapshot, &view, &all, cluster, tls);
    }
    let side = Side { snapshot, namespace: view.namespace(), cluster, tls };
    let port = &cluster.port;
    let of_port = || all.iter().filter(|backend| backend.port_name == port.name);
    let dialled = addresses.iter().flatten().flat_map(|address| {
        // An address of a Service leads on to its endpoints.
        if view.service.is_some() && view.addresses.contains(address) {
            return backends::within(of_port(), view.families).into_iter().cloned().collect();
        }
        let there = of_port().filter(|backend| backend.ip() == Some(*address));
        let own: Vec<Backend> = there.map(|backend| backend.at_port(port.number)).collect();
        let found = if own.is_empty() { behind(snapshot, *address, port.number) } else { own };
        match found.is_empty() {
            true => vec![Backend::of_address(None, *address, port.number)],
            false => found,
        }
    });
    dialled.filter_map(|backend| side.explained(&backend)).collect()
}

/// Both sides of what answers at some addresses, called in plaintext; nothing is said of addresses that nobody knows.
pub(super) fn passed_through(
    caller: &Caller<'_>,
    addresses: &[Option<IpAddr>],
    port: u16,
) -> Vec<EndpointExplanation> {
    let snapshot = caller.snapshot;
    let dialled = addresses.iter().flatten().flat_map(|address| behind(snapshot, *address, port));
    dialled
        .map(|backend| {
            let namespace = namespace_of(&backend, "");
            let endpoint = unmarked(&backend);
            let pair = pair::evaluate(snapshot, &namespace, &ClientTlsSetting::Disable, &endpoint, &backend);
            explained(snapshot, &endpoint, &backend, pair)
        })
        .collect()
}

/// What answers at an address: the endpoints of the Service whose address it is, or the workload there.
fn behind(snapshot: &Snapshot, address: IpAddr, port: u16) -> Vec<Backend> {
    let services = snapshot.namespaces.values().flat_map(|space| space.services.values());
    let service = services.into_iter().find(|service| service.cluster_ips.contains(&address));
    if let Some(service) = service {
        return of_port(snapshot, service, port);
    }
    let workload = snapshot.workload_by_address(None, address);
    workload.map(|one| Backend::of_address(Some(one), address, port)).into_iter().collect()
}

fn of_port(snapshot: &Snapshot, service: &Service, port: u16) -> Vec<Backend> {
    let Some(port) = service.ports.iter().find(|one| one.number == port) else { return Vec::new() };
    let all = backends::of_kubernetes(snapshot, service).into_iter();
    all.filter(|backend| backend.port_name == port.name).collect()
}

/// The namespace whose policies count for an endpoint.
fn namespace_of(backend: &Backend, otherwise: &str) -> Name {
    backend.workload.as_ref().map_or_else(|| otherwise.into(), |key| key.namespace.clone())
}

/// The client's side of a call to the endpoints of a cluster.
struct Side<'a> {
    snapshot: &'a Snapshot,
    /// The namespace of the host.
    namespace: &'a Name,
    cluster: &'a OutboundCluster,
    /// What the client really does: without a proxy it sends plaintext, whatever the cluster says.
    tls: &'a ClientTlsSetting,
}

impl Side<'_> {
    /// `None` for an endpoint that the cluster does not have.
    fn explained(&self, backend: &Backend) -> Option<EndpointExplanation> {
        let Self { snapshot, cluster, tls, .. } = self;
        let known = cluster.endpoints.iter().find(|one| one.address == backend.address);
        let endpoint = match (known, cluster.discovery) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Discovery::OriginalDst) => unmarked(backend),
            (None, _) => return None,
        };
        let namespace = namespace_of(backend, self.namespace);
        let mut pair = pair::evaluate(snapshot, &namespace, tls, &endpoint, backend);
        // O7: without its credential the client makes no connection. A client without a proxy needs none.
        let own = **tls == cluster.tls;
        if let Some(step) = own.then(|| credentials::withheld(&cluster.trace)).flatten() {
            pair = Pair {
                outcome: ConnectionOutcome::Refused,
                reason: ConnectionReason::Withheld(Box::new(step.reason.clone())),
                chains: Vec::new(),
                ..pair
            };
        }
        Some(explained(snapshot, &endpoint, backend, pair))
    }
}

fn unmarked(backend: &Backend) -> Endpoint {
    Endpoint {
        address: backend.address.clone(),
        mutual_tls: false,
        ready: backend.ready,
        weight: backend.weight,
        workload: backend.workload.clone(),
    }
}

/// The address, or whose it is if it is not known.
fn written(endpoint: &Endpoint) -> String {
    match (&endpoint.address, &endpoint.workload) {
        (EndpointAddress::Socket(socket), Some(key)) if is_placeholder(socket.ip()) => {
            format!("{} (address unknown), port {}", key.name, socket.port())
        }
        (address, _) => address.to_string(),
    }
}

fn explained(snapshot: &Snapshot, endpoint: &Endpoint, backend: &Backend, pair: Pair) -> EndpointExplanation {
    EndpointExplanation {
        address: written(endpoint),
        workload: endpoint.workload.clone(),
        port: backend.port(),
        ready: endpoint.ready,
        marked: endpoint.mutual_tls,
        server_cluster: pair.server.in_mesh.then(|| pair::server_cluster(snapshot, backend)),
        pair,
    }
}
