//! The connections that a call makes: to a workload, or to each workload of a host.

use std::{net::IpAddr, sync::Arc};

use eastwest_model::{Families, Host, ObjectRef, SpiffeId, Workload, policy::MutualTlsMode};

use super::{Client, Refused, Server, Tls};
use crate::{
    ClientScope, ConnectionOutcome, Port, Snapshot,
    address::url_host,
    calls::{Caller, ExplainError, authority},
    compute::{self, originate::mesh_server_name, peer_authentication as policies},
    explain::{self, EndpointExplanation},
};

/// A connection to a workload.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    /// The workload; `None` = nobody that is known.
    pub(super) server: Option<&'a Arc<Workload>>,
    /// The address that is dialled there.
    pub(super) destination: Option<IpAddr>,
    /// The port that is dialled there.
    pub(super) port: u16,
    pub(super) tls: Tls,
    /// The identity that the server's proxy sees.
    pub(super) peer: Option<SpiffeId>,
    /// The server name that a client of the mesh sends.
    pub(super) server_name: Option<String>,
    /// The authority that a client writes.
    pub(super) authority: String,
    /// The client originates TLS that the server's proxy does not end.
    pub(super) is_own_tls: bool,
    pub(super) refused: Option<Refused>,
}

/// The connections of a call, at least one.
pub(super) fn of<'a>(
    snapshot: &'a Snapshot,
    client: &Client,
    server: &Server,
) -> Result<Vec<Connection<'a>>, ExplainError> {
    match (server, client) {
        (Server::Workload(key, port), _) => {
            let workload = snapshot.workload(key).ok_or_else(|| ExplainError::UnknownClient(key.clone()))?;
            let caller = known(snapshot, client)?;
            let address = address_in(&workload.addresses, caller.map(|one| &one.addresses[..]));
            let authority = address.map_or(key.name.to_string(), url_host);
            let named = Named { authority: format!("{authority}:{port}"), server_name: None };
            Ok(vec![to_workload(snapshot, client, workload, (address, *port), named)?])
        }
        (Server::Host(host, port), Client::Workload(key)) => {
            let workload = snapshot.workload(key).ok_or_else(|| ExplainError::UnknownClient(key.clone()))?;
            by_caller(snapshot, client, workload, host, port)
        }
        (Server::Host(host, port), _) => by_stranger(snapshot, client, host, port),
    }
}

/// The client, if it is a workload.
fn known<'a>(snapshot: &'a Snapshot, client: &Client) -> Result<Option<&'a Arc<Workload>>, ExplainError> {
    match client {
        Client::Workload(key) => {
            snapshot.workload(key).map(Some).ok_or_else(|| ExplainError::UnknownClient(key.clone()))
        }
        Client::Plaintext | Client::Principal(_) => Ok(None),
    }
}

/// The address from which a client calls another one.
pub(super) fn address_of(snapshot: &Snapshot, client: &Client, to: Option<IpAddr>) -> Option<IpAddr> {
    let Client::Workload(key) = client else { return None };
    let own = &snapshot.workload(key)?.addresses;
    let to: Option<Vec<IpAddr>> = to.map(|one| vec![one]);
    address_in(own, to.as_deref())
}

/// The first of some addresses of a family that the other side has.
fn address_in(own: &[IpAddr], other: Option<&[IpAddr]>) -> Option<IpAddr> {
    let families = other.and_then(Families::of);
    let fits = |address: &&IpAddr| families.is_none_or(|families| families.contain(**address));
    own.iter().find(fits).or(own.first()).copied()
}

/// What a client writes.
struct Named {
    authority: String,
    server_name: Option<String>,
}

fn identity(snapshot: &Snapshot, client: &Client) -> Result<Option<SpiffeId>, ExplainError> {
    Ok(match client {
        Client::Plaintext => None,
        Client::Principal(id) => Some(id.clone()),
        Client::Workload(key) => {
            let workload = known(snapshot, client)?.filter(|one| compute::has_proxy(one));
            let id = workload.map(|one| compute::identity(snapshot, one)).transpose();
            id.map_err(|_| ExplainError::NoIdentity(key.clone()))?
        }
    })
}

/// A connection to a workload by itself: mutual TLS where client and server can.
fn to_workload<'a>(
    snapshot: &'a Snapshot,
    client: &Client,
    server: &'a Arc<Workload>,
    (destination, port): (Option<IpAddr>, u16),
    named: Named,
) -> Result<Connection<'a>, ExplainError> {
    let chosen = policies::choose(snapshot, server.meta.namespace(), &server.meta.labels);
    let (mode, decider) = chosen.mode_of_port(port);
    let by: Option<ObjectRef> = decider.map(|policy| policy.meta.object.clone());
    let peer = identity(snapshot, client)?;
    let in_mesh = compute::has_proxy(server);
    let is_mutual = in_mesh && peer.is_some() && mode != MutualTlsMode::Disable;
    let refused = match (&peer, mode) {
        (Some(peer), _) if is_mutual && !is_trusted(snapshot, peer) => {
            Some((by, format!("the trust domain of {peer} is not the mesh's and no alias of it")))
        }
        (None, MutualTlsMode::Strict) if in_mesh => {
            Some((by, format!("port {port} takes mutual TLS alone, and the client sends plaintext")))
        }
        _ => None,
    };
    let tls = match (refused.is_some(), is_mutual) {
        (true, _) => Tls::Refused,
        (false, true) => Tls::Mutual,
        (false, false) => Tls::Plaintext,
    };
    let service = || {
        let (host, number) = compute::listed_ports::service_port(snapshot, server, port)?;
        Some(mesh_server_name(number, "", &host))
    };
    let server_name = named.server_name.or_else(service);
    Ok(Connection {
        server: Some(server),
        destination,
        port,
        tls,
        peer: peer.filter(|_| is_mutual),
        server_name: server_name.or_else(|| Some(mesh_server_name(port, "", server.meta.name()))),
        authority: named.authority,
        is_own_tls: false,
        refused,
    })
}

fn is_trusted(snapshot: &Snapshot, peer: &SpiffeId) -> bool {
    snapshot.mesh().trust_domains().any(|domain| *domain == peer.trust_domain())
}

/// A call to a host as the client's proxy makes it.
fn by_caller<'a>(
    snapshot: &'a Snapshot,
    client: &Client,
    workload: &Workload,
    host: &str,
    port: &Port,
) -> Result<Vec<Connection<'a>>, ExplainError> {
    let scope = ClientScope::of(snapshot, workload);
    let outbound = compute::outbound(snapshot, &scope);
    let caller = Caller::new(snapshot, &scope, &outbound);
    let number = caller.port_number(host, port)?;
    let explained = explain::explain_call(&caller, workload, host, number)?;
    let authority = authority(host, number);
    let peer = identity(snapshot, client)?;
    let sni = explained.setting.as_ref().and_then(|setting| setting.sni.clone());
    let connection = |endpoint: &EndpointExplanation| {
        let server = endpoint.workload.as_ref().and_then(|key| snapshot.workload(key));
        let outcome = endpoint.pair.outcome;
        let tls = match outcome {
            ConnectionOutcome::MutualTls => Tls::Mutual,
            ConnectionOutcome::Plaintext | ConnectionOutcome::Tls => Tls::Plaintext,
            ConnectionOutcome::Refused => Tls::Refused,
        };
        let why = || (endpoint.pair.server.policy.clone(), endpoint.pair.reason.to_string());
        Connection {
            server,
            destination: server.and_then(|one| address_in(&one.addresses, Some(&workload.addresses))),
            port: endpoint.port,
            tls,
            peer: peer.clone().filter(|_| tls == Tls::Mutual),
            server_name: sni.as_ref().map(ToString::to_string),
            authority: authority.clone(),
            is_own_tls: outcome == ConnectionOutcome::Tls,
            refused: (outcome == ConnectionOutcome::Refused).then(why),
        }
    };
    let connections: Vec<_> = explained.endpoints.iter().map(connection).collect();
    Ok(or_nobody(connections, authority, number))
}

/// A call to a host by somebody of whom only the identity is known.
fn by_stranger<'a>(
    snapshot: &'a Snapshot,
    client: &Client,
    host: &str,
    port: &Port,
) -> Result<Vec<Connection<'a>>, ExplainError> {
    // A name such as reviews.shop.svc.cluster.local tells where the Service is; what it exports does not matter there.
    let namespace = host.split('.').nth(1).filter(|label| snapshot.namespaces.contains_key(*label));
    let scope = ClientScope::of_stranger(namespace.unwrap_or(&snapshot.mesh.root_namespace));
    let outbound = compute::outbound(snapshot, &scope);
    let caller = Caller::new(snapshot, &scope, &outbound);
    let number = caller.port_number(host, port)?;
    let target = caller.target(host, number)?;
    let authority = authority(host, number);
    let cluster = target.host.as_ref().and_then(|host| caller.cluster(host, number));
    let by_name = cluster.into_iter().flat_map(|cluster| {
        let found = cluster.endpoints.iter();
        found.filter_map(|one| {
            Some((snapshot.workload(one.workload.as_ref()?)?, one.address.ip(), one.address.port()))
        })
    });
    let by_address = target.addresses.iter().flatten().filter(|_| cluster.is_none()).filter_map(|address| {
        snapshot.workload_by_address(None, *address).map(|one| (one, Some(*address), number))
    });
    let connections: Result<Vec<_>, _> = by_name
        .chain(by_address)
        .map(|(server, address, port)| {
            let sni = target.host.as_ref().map(|host: &Host| mesh_server_name(number, "", host));
            let named = Named { authority: authority.clone(), server_name: sni };
            to_workload(snapshot, client, server, (address, port), named)
        })
        .collect();
    Ok(or_nobody(connections?, authority, number))
}

/// A host behind which nobody is known: it is outside of the mesh, or has no endpoint.
fn or_nobody(connections: Vec<Connection<'_>>, authority: String, port: u16) -> Vec<Connection<'_>> {
    if !connections.is_empty() {
        return connections;
    }
    vec![Connection {
        server: None,
        destination: None,
        port,
        tls: Tls::Plaintext,
        peer: None,
        server_name: None,
        authority,
        is_own_tls: false,
        refused: None,
    }]
}
