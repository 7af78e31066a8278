//! One call through the listeners of a client, as its proxy decides.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use eastwest_model::mesh::OutboundTrafficPolicy;

use super::{
    Addresses, Chain, ClusterKey, Destination, HostRoutes, INBOUND_PORT, Listener, ListenerKey, ListenerPart,
    OUTBOUND_PORT, Target, Transport, UNKNOWN_HOST_STATUS, VIRTUAL_OUTBOUND, host_routes, parts,
    unknown_virtual_host,
    virtual_hosts::{owned_domains, virtual_host_name},
};
use crate::{
    settings::{Outbound, OutboundCluster},
    traffic::{Relay, Sending},
};

/// What an application dials, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The address; `None` = one that no listener and no block of addresses stands for.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The first bytes.
    pub first_bytes: FirstBytes,
}

/// The first bytes of a connection, as far as they decide where it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirstBytes {
    /// A request of HTTP in plaintext, with this Host header.
    Http {
        /// `HOST` or `HOST:PORT`.
        authority: String,
    },
    /// A TLS handshake.
    Tls {
        /// The server name that it asks for.
        server_name: Option<String>,
    },
    /// Anything else, or nothing because the server begins.
    Other,
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { authority } => write!(f, "HTTP with Host {authority}"),
            Self::Tls { server_name: Some(name) } => write!(f, "TLS with server name {name}"),
            Self::Tls { server_name: None } => f.write_str("TLS without a server name"),
            Self::Other => f.write_str("bytes that name no host"),
        }
    }
}

/// What takes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The name of the listener.
    pub listener: String,
    /// The name of its filter chain.
    pub chain: String,
    /// For HTTP by routes: the name of the virtual host.
    pub virtual_host: Option<String>,
    /// Where it ends up.
    pub to: Reached<'a>,
    /// How requests are sent there; `None` = it hands bytes on, or requests as they are.
    pub sending: Option<Sending<'a>>,
    /// How bytes are handed on.
    pub relay: Relay,
}

/// Where a call ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached<'a> {
    /// At a cluster of a host.
    Cluster(&'a OutboundCluster),
    /// At the address that was dialled, as it is.
    Passthrough,
    /// Nowhere: the connection ends.
    BlackHole,
    /// The client's proxy answers the request itself, with this status.
    Answered(u32),
}

impl Reached<'_> {
    /// The name of the cluster; what a proxy answers itself counts as the black hole.
    pub fn cluster_name(&self) -> String {
        match self {
            Self::Cluster(cluster) => cluster.name(),
            Self::Passthrough => super::PASSTHROUGH_CLUSTER.to_owned(),
            Self::BlackHole | Self::Answered(_) => super::BLACK_HOLE_CLUSTER.to_owned(),
        }
    }
}

/// All outbound listeners of a client and its virtual hosts, for looking calls up.
#[derive(Debug)]
pub struct Listeners<'a> {
    outbound: &'a Outbound,
    listeners: BTreeMap<ListenerKey, Listener<'a>>,
    routes: BTreeMap<u16, Domains<'a>>,
}

/// The domains of a port, each with the cluster of its host and how requests are sent there.
type Domains<'a> = BTreeMap<String, (ClusterKey<'a>, Sending<'a>)>;

impl<'a> Listeners<'a> {
    /// Those that are rendered for a client with these settings.
    pub fn of(outbound: &'a Outbound) -> Self {
        let unknown = outbound.unknown_hosts;
        let mut by_key: BTreeMap<ListenerKey, Vec<ListenerPart<'a>>> = BTreeMap::new();
        let mut by_port: BTreeMap<u16, Vec<HostRoutes<'a>>> = BTreeMap::new();
        for service in outbound.services.values() {
            for (key, part) in parts(service) {
                by_key.entry(key).or_default().push(part);
            }
            for (port, part) in host_routes(service) {
                by_port.entry(port).or_default().push(part);
            }
        }
        for port in [INBOUND_PORT, OUTBOUND_PORT] {
            by_key.remove(&ListenerKey::any_address(port, outbound.families));
        }
        let listener = |(key, parts): (ListenerKey, Vec<_>)| {
            (key, Listener::new(key, &parts.iter().collect::<Vec<_>>(), unknown))
        };
        let routes = |(port, parts): (u16, Vec<HostRoutes<'a>>)| (port, domains(&parts));
        Self {
            outbound,
            listeners: by_key.into_iter().map(listener).collect(),
            routes: by_port.into_iter().map(routes).collect(),
        }
    }

    /// Where a call goes. Envoy looks for the listener of the address, then for the one of all addresses of its family.
    /// Where the client has no address of that family, nothing takes the call.
    pub fn resolve(&self, call: &Call) -> Resolved<'a> {
        if call.address.is_some_and(|address| !self.outbound.families.contain(address)) {
            return Resolved { to: Reached::BlackHole, ..self.unlisted(call.port) };
        }
        let Some(listener) = self.listener(call) else { return self.unlisted(call.port) };
        let Some(chain) = listener.chain_for(call) else {
            return Resolved { to: Reached::BlackHole, ..self.unlisted(call.port) };
        };
        let mut resolved = Resolved {
            listener: listener.key.name(),
            chain: chain.name.to_string(),
            virtual_host: None,
            to: Reached::BlackHole,
            sending: None,
            relay: Relay::default(),
        };
        match (&chain.target, &call.first_bytes) {
            (Target::Bytes { to, relay, .. }, _) => {
                resolved.to = self.reached(*to);
                resolved.relay = *relay;
            }
            (Target::Http { to, sending, .. }, _) => {
                resolved.to = self.cluster(*to);
                resolved.sending = Some(*sending);
            }
            (Target::Routes { .. }, FirstBytes::Http { authority }) => {
                let (virtual_host, to, sending) = self.route(call.port, authority);
                resolved.virtual_host = Some(virtual_host);
                resolved.to = to;
                resolved.sending = sending;
            }
            // Nothing but HTTP gets there.
            (Target::Routes { .. }, _) => {}
        }
        resolved
    }

    fn listener(&self, call: &Call) -> Option<&Listener<'a>> {
        let port = call.port;
        let key = |address| ListenerKey { addresses: Addresses::One(address), port };
        let exact = call.address.and_then(|address| self.listeners.get(&key(address)));
        exact.or_else(|| self.listeners.get(&ListenerKey::any_address(port, self.outbound.families)))
    }

    /// What has no listener stays with the one that takes all connections; those to its own port would come back.
    fn unlisted(&self, port: u16) -> Resolved<'a> {
        let (chain, to) = match port {
            OUTBOUND_PORT => ("blackhole", Destination::BlackHole),
            _ => ("catchall-tcp", Destination::unknown(self.outbound.unknown_hosts)),
        };
        Resolved {
            listener: VIRTUAL_OUTBOUND.to_owned(),
            chain: format!("{VIRTUAL_OUTBOUND}-{chain}"),
            virtual_host: None,
            to: self.reached(to),
            sending: None,
            relay: Relay::default(),
        }
    }

    /// The exact domain, else the longest wildcard, else the virtual host for unknown hosts.
    fn route(&self, port: u16, authority: &str) -> (String, Reached<'a>, Option<Sending<'a>>) {
        let authority = authority.to_ascii_lowercase();
        let found = self.routes.get(&port).and_then(|domains| {
            let wildcard = || {
                let suffixes = (1..authority.len()).filter_map(|at| authority.get(at..));
                suffixes.filter_map(|suffix| domains.get(&format!("*{suffix}"))).next()
            };
            domains.get(&authority).or_else(wildcard)
        });
        let Some((cluster, sending)) = found else {
            let policy = self.outbound.unknown_hosts;
            let to = match policy {
                OutboundTrafficPolicy::AllowAny => Reached::Passthrough,
                OutboundTrafficPolicy::RegistryOnly => Reached::Answered(UNKNOWN_HOST_STATUS),
            };
            return (unknown_virtual_host(policy).to_owned(), to, None);
        };
        (virtual_host_name(cluster), self.cluster(*cluster), Some(*sending))
    }

    fn reached(&self, to: Destination<'a>) -> Reached<'a> {
        match to {
            Destination::Cluster(cluster) => self.cluster(cluster),
            Destination::Passthrough => Reached::Passthrough,
            Destination::BlackHole => Reached::BlackHole,
        }
    }

    /// Every listener is made of a cluster that is there.
    fn cluster(&self, key: ClusterKey<'a>) -> Reached<'a> {
        let found = self.outbound.services.get(key.host).and_then(|service| service.on_port(key.port));
        found.map_or(Reached::BlackHole, Reached::Cluster)
    }
}

fn domains<'a>(hosts: &[HostRoutes<'a>]) -> Domains<'a> {
    let owned = owned_domains(hosts.iter());
    owned
        .flat_map(|(host, domains)| {
            domains.into_iter().map(move |one| (one.to_owned(), (host.to, host.sending)))
        })
        .collect()
}

impl<'a> Listener<'a> {
    /// The filter chain for a call: by address, server name, transport, then protocol, each step final (ENVOY.md E21).
    fn chain_for(&self, call: &Call) -> Option<&Chain<'a>> {
        let transport = match call.first_bytes {
            FirstBytes::Tls { .. } if self.finds_tls => Transport::Tls,
            _ => Transport::Raw,
        };
        let server_name = match &call.first_bytes {
            FirstBytes::Tls { server_name } if self.finds_tls => server_name.as_deref(),
            _ => None,
        };
        let http = self.finds_http && matches!(call.first_bytes, FirstBytes::Http { .. });
        let mut left: Vec<&Chain<'a>> = self.chains.iter().collect();
        narrow(
            &mut left,
            |chain| Some(&chain.matches.blocks[..]).filter(|blocks| !blocks.is_empty()),
            |blocks| {
                let address = call.address?;
                let around = blocks.iter().filter(|block| block.contains(&address));
                around.map(|block| usize::from(block.prefix_len())).max()
            },
        );
        narrow(&mut left, |chain| chain.matches.server_name, |name| covers(name, server_name?));
        narrow(&mut left, |chain| chain.matches.transport, |one| (one == transport).then_some(0));
        narrow(
            &mut left,
            |chain| Some(chain.matches.protocols).filter(|protocols| !protocols.is_empty()),
            |protocols| (http && protocols.contains(&"http/1.1")).then_some(0),
        );
        left.first().copied().or(self.default_chain.as_ref())
    }
}

/// Keeps the chains that match best, or if none matches, those that take any. `fit`: how well a value matches, if it
/// does.
fn narrow<'c, 'a, T: Copy>(
    left: &mut Vec<&'c Chain<'a>>,
    value: impl Fn(&'c Chain<'a>) -> Option<T>,
    fit: impl Fn(T) -> Option<usize>,
) {
    let best = left.iter().filter_map(|&chain| value(chain).and_then(&fit)).max();
    left.retain(|&chain| match best {
        Some(_) => value(chain).and_then(&fit) == best,
        None => value(chain).is_none(),
    });
}

/// How closely a server name of a chain matches: the whole name best, else the longest suffix.
fn covers(pattern: &str, name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        None => (pattern == name).then_some(usize::MAX),
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len()),
    }
}
