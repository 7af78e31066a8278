//! Where a connection goes, read from the rendered resources by Envoy's rules, and from nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use eastwest_engine::{
    explain::Explanation,
    listeners::{Call, FirstBytes},
};
use eastwest_proto::envoy::{
    config::{
        core::v3::{self as core, address::Address, socket_address::PortSpecifier},
        listener::v3::{FilterChain, Listener, filter::ConfigType},
        route::v3::{RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier},
    },
    extensions::filters::network::{
        http_connection_manager::v3::{HttpConnectionManager, http_connection_manager::RouteSpecifier},
        tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier as TcpCluster},
    },
};

use crate::world::{Connection, Resources, taken_by};

/// The name of the cluster that a call reaches, or the status of a direct answer.
pub(crate) fn reached(resources: &Resources, call: &Call) -> String {
    let Some(listener) = listener_of(resources, call) else { return "BlackHoleCluster".to_owned() };
    let finds = |name: &str| listener.listener_filters.iter().any(|one| one.name.ends_with(name));
    let (tls, http) = (finds("tls_inspector"), finds("http_inspector"));
    // Envoy keeps server names in lower case.
    let server_name = match &call.first_bytes {
        FirstBytes::Tls { server_name: Some(name) } => name.to_lowercase(),
        _ => String::new(),
    };
    let mut connection = Connection {
        address: call.address,
        port: call.port,
        transport: "raw_buffer",
        ..Connection::default()
    };
    match &call.first_bytes {
        FirstBytes::Tls { .. } if tls => {
            connection.transport = "tls";
            connection.server_name = &server_name;
        }
        FirstBytes::Http { .. } if http => connection.protocols = &["http/1.1"],
        _ => {}
    }
    match taken_by(listener, &connection) {
        Some(chain) => destination(resources, chain, &call.first_bytes),
        None => "refused".to_owned(),
    }
}

/// What a client is taken to send first.
pub(crate) fn first_bytes(explained: &Explanation) -> FirstBytes {
    let text = explained.first_bytes.as_deref().unwrap();
    let after = |words: &str| text.strip_prefix(words).map(str::to_owned);
    if let Some(authority) = after("HTTP with Host ") {
        return FirstBytes::Http { authority };
    }
    match text.starts_with("TLS") {
        true => FirstBytes::Tls { server_name: after("TLS with server name ") },
        false => FirstBytes::Other,
    }
}

/// The listener of the address, else that of all addresses of its family, else the one that catches all connections;
/// `None` where that does not take the family.
fn listener_of<'a>(resources: &'a Resources, call: &Call) -> Option<&'a Listener> {
    let at = |address: IpAddr| {
        let of_service = resources.listeners.iter().filter(|one| one.bind_to_port == Some(false));
        of_service.into_iter().find(|one| sockets(one).contains(&(address, u32::from(call.port))))
    };
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let of_family = |one: &IpAddr| call.address.is_none_or(|address| address.is_ipv4() == one.is_ipv4());
    let exact = call.address.and_then(at);
    let any = || all.iter().copied().filter(of_family).find_map(at);
    let virtual_outbound = resources.listener("virtualOutbound").unwrap();
    let bound: Vec<_> = sockets(virtual_outbound).into_iter().map(|(address, _)| address).collect();
    let is_taken = all.iter().filter(|one| of_family(one)).any(|one| bound.contains(one));
    is_taken.then(|| exact.or_else(any).unwrap_or(virtual_outbound))
}

/// All addresses of a listener.
pub(crate) fn sockets(listener: &Listener) -> Vec<(IpAddr, u32)> {
    let more = listener.additional_addresses.iter().filter_map(|one| one.address.as_ref());
    let socket = |address: &core::Address| {
        let Address::SocketAddress(socket) = address.address.as_ref()? else { return None };
        let PortSpecifier::PortValue(port) = socket.port_specifier.as_ref()? else { return None };
        Some((socket.address.parse().ok()?, *port))
    };
    listener.address.iter().chain(more).filter_map(socket).collect()
}

fn destination(resources: &Resources, chain: &FilterChain, first_bytes: &FirstBytes) -> String {
    let Some(ConfigType::TypedConfig(config)) = &chain.filters.last().unwrap().config_type else {
        panic!("no config")
    };
    if let Ok(proxy) = config.unpack::<TcpProxy>() {
        let Some(TcpCluster::Cluster(cluster)) = proxy.cluster_specifier else { panic!("no cluster") };
        return cluster;
    }
    let FirstBytes::Http { authority } = first_bytes else { panic!("{first_bytes:?} to {}", chain.name) };
    match config.unpack::<HttpConnectionManager>().unwrap().route_specifier.unwrap() {
        RouteSpecifier::RouteConfig(routes) => routed(&routes, authority),
        RouteSpecifier::Rds(rds) => {
            let routes = resources.routes.iter().find(|one| one.name == rds.route_config_name);
            routed(routes.expect("the routes that a listener names"), authority)
        }
    }
}

/// By the exact domain, else the longest wildcard, else the domain that takes all.
fn routed(routes: &RouteConfiguration, authority: &str) -> String {
    let authority = authority.to_lowercase();
    let fits = |domain: &str| match domain.strip_prefix('*') {
        None => (domain.to_lowercase() == authority).then_some(usize::MAX),
        Some("") => Some(0),
        Some(suffix) => {
            (authority.len() > suffix.len() && authority.ends_with(suffix)).then_some(suffix.len())
        }
    };
    let best = |host: &VirtualHost| host.domains.iter().filter_map(|domain| fits(domain)).max();
    let host = routes.virtual_hosts.iter().filter(|host| best(host).is_some()).max_by_key(|host| best(host));
    match host.unwrap().routes[0].action.as_ref().unwrap() {
        Action::Route(action) => match action.cluster_specifier.as_ref().unwrap() {
            ClusterSpecifier::Cluster(cluster) => cluster.clone(),
            other => panic!("{other:?}"),
        },
        Action::DirectResponse(answer) => answer.status.to_string(),
        other => panic!("{other:?}"),
    }
}
