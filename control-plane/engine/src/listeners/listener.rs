//! The filter chains of one outbound listener, out of what hosts contribute to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use eastwest_model::{Host, mesh::OutboundTrafficPolicy};
use ipnet::IpNet;

use super::{
    ByServerName, Carries, Chain, ChainMatch, ClusterKey, Destination, ListenerKey, ListenerPart, PLAIN_HTTP,
    Target, Transport,
};
use crate::traffic::{Relay, Sending};

/// A listener behind `virtualOutbound`, which does not bind: it gets the connections to its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listener<'a> {
    /// Its address and port.
    pub key: ListenerKey,
    /// Whether it looks for a TLS handshake.
    pub finds_tls: bool,
    /// Whether it looks for HTTP in plaintext.
    pub finds_http: bool,
    /// Its filter chains.
    pub chains: Vec<Chain<'a>>,
    /// The chain for what no other one takes; without it the connection is refused.
    pub default_chain: Option<Chain<'a>>,
}

impl<'a> Listener<'a> {
    /// The listener of an address and port that hosts contribute to, in their order. A listener of one address has one
    /// host: Envoy takes no second listener there, so the first host counts.
    pub fn new(key: ListenerKey, parts: &[&ListenerPart<'a>], unknown: OutboundTrafficPolicy) -> Self {
        let own = parts.iter().find_map(|part| match part {
            ListenerPart::OwnAddress(carries) => Some(carries),
            _ => None,
        });
        match own {
            Some(carries) => Self::of_one_host(key, carries),
            None => AnyHost::new(parts).listener(key, unknown),
        }
    }

    fn of_one_host(key: ListenerKey, carries: &Carries<'a>) -> Self {
        let bytes = chain("tcp", ChainMatch::default(), bytes(carries));
        let (chains, default_chain) = match carries {
            Carries::Bytes { .. } => (vec![bytes], None),
            Carries::Either { cluster, mesh, sending, .. } => {
                (http_chains("", ChainMatch::default(), (*cluster, *sending), *mesh), Some(bytes))
            }
        };
        Self { key, finds_tls: false, finds_http: default_chain.is_some(), chains, default_chain }
    }
}

/// The hosts of a port that have no listener of their own. What asks for none of them goes where unknown hosts go, so
/// that no host takes the traffic of another.
#[derive(Default)]
struct AnyHost<'a> {
    /// Some host has routes.
    http: bool,
    /// Some of these routes lead to hosts that are looked up when they are called.
    dynamic: bool,
    /// TLS of the application, by server name.
    server_names: BTreeMap<&'a str, ByServerName<'a>>,
    /// The hosts of blocks of addresses.
    blocks: BTreeMap<IpNet, Vec<InBlock<'a>>>,
    /// The host that takes other bytes, as long as the port has no other one.
    only: Option<(&'a Host, Option<(ClusterKey<'a>, Relay)>)>,
    /// The port has several hosts.
    several: bool,
}

/// A host of a block of addresses.
#[derive(Clone, Copy)]
struct InBlock<'a> {
    carries: Carries<'a>,
    /// Addresses that it leaves to others, with any port (POLICY.md D12).
    spared: &'a [SocketAddr],
}

impl<'a> AnyHost<'a> {
    fn new(parts: &[&ListenerPart<'a>]) -> Self {
        let mut all = Self::default();
        for part in parts {
            match part {
                ListenerPart::Routes { host, dynamic } => {
                    all.http = true;
                    all.dynamic |= dynamic;
                    all.note(host, None);
                }
                ListenerPart::Named { host, by_name, bytes } => {
                    all.server_names.extend(by_name.map(|to| (host.as_str(), to)));
                    all.note(host, *bytes);
                }
                ListenerPart::Block { block, spared, carries } => {
                    all.blocks.entry(*block).or_default().push(InBlock { carries: *carries, spared });
                }
                ListenerPart::OwnAddress(_) => {}
            }
        }
        all
    }

    fn note(&mut self, host: &'a Host, bytes: Option<(ClusterKey<'a>, Relay)>) {
        let (known, known_bytes) = self.only.get_or_insert((host, bytes));
        self.several |= *known != host;
        *known_bytes = known_bytes.or(bytes);
    }

    fn listener(&self, key: ListenerKey, unknown: OutboundTrafficPolicy) -> Listener<'a> {
        let raw = |protocols| ChainMatch { transport: Some(Transport::Raw), protocols, ..Default::default() };
        let http =
            self.http.then(|| chain("http", raw(&PLAIN_HTTP), Target::Routes { dynamic: self.dynamic }));
        let by_name = self.server_names.iter().map(|(name, to)| by_server_name(name, None, to));
        let only = self.only.filter(|_| !self.several).and_then(|(_, bytes)| bytes);
        let only = only.map(|(cluster, relay)| {
            chain("tcp", raw(&[]), Target::Bytes { to: Destination::Cluster(cluster), lookup: None, relay })
        });
        let mut chains: Vec<Chain<'a>> = http.into_iter().chain(by_name).chain(only).collect();
        let unknown =
            Target::Bytes { to: Destination::unknown(unknown), lookup: None, relay: Relay::default() };
        let spared = self.spared(key.port, &chains, &unknown);
        let of_block = |(block, hosts): (&IpNet, &Vec<InBlock<'a>>)| {
            chains_of_block(*block, &hosts.iter().map(|host| host.carries).collect::<Vec<_>>())
        };
        chains.extend(self.blocks.iter().flat_map(of_block));
        chains.extend(spared);
        Listener {
            key,
            // Always the same, so that a host that comes or goes closes no connection of the others.
            finds_tls: true,
            finds_http: true,
            chains,
            default_chain: Some(chain("unknown", ChainMatch::default(), unknown)),
        }
    }
}

impl<'a> AnyHost<'a> {
    /// The chains for addresses that hosts of blocks leave to others: as if these hosts were not there.
    fn spared(&self, port: u16, base: &[Chain<'a>], unknown: &Target<'a>) -> Vec<Chain<'a>> {
        let in_blocks = self.blocks.values().flatten().flat_map(|host| host.spared);
        let addresses: BTreeSet<IpAddr> =
            in_blocks.filter(|one| one.port() == port).map(SocketAddr::ip).collect();
        let mut by_holder: BTreeMap<Option<IpNet>, Vec<IpNet>> = BTreeMap::new();
        for address in addresses {
            let holder = self.holders(address, port).next_back().map(|(block, _)| block);
            by_holder.entry(holder).or_default().push(address.into());
        }
        let mut all = Vec::new();
        for (holder, addresses) in by_holder {
            let first = addresses.first().map(IpNet::addr);
            let holders = || first.into_iter().flat_map(|address| self.holders(address, port));
            let mut chains = match holder {
                Some(block) => {
                    let hosts = holders().filter(|(one, _)| *one == block).map(|(_, carries)| carries);
                    chains_of_block(block, &hosts.collect::<Vec<_>>())
                }
                None => base.to_vec(),
            };
            let is_catch_all =
                |chain: &Chain<'_>| chain.matches.server_name.is_none() && chain.matches.transport.is_none();
            if !chains.iter().any(is_catch_all) {
                let name = holder.map_or_else(|| "unknown".to_owned(), |block| format!("{block} unknown"));
                chains.push(chain(name, ChainMatch::default(), unknown.clone()));
            }
            all.extend(chains.into_iter().map(|one| Chain {
                name: format!("spared {}", one.name).into(),
                matches: ChainMatch { blocks: addresses.clone(), ..one.matches },
                target: one.target,
            }));
        }
        all
    }

    /// The hosts of the blocks around an address that do not leave it to others, by block.
    fn holders(&self, address: IpAddr, port: u16) -> impl DoubleEndedIterator<Item = (IpNet, Carries<'a>)> {
        let spared = SocketAddr::new(address, port);
        let around = self.blocks.iter().filter(move |(block, _)| block.contains(&address));
        let mut found: Vec<_> = around
            .flat_map(|(block, hosts)| hosts.iter().map(move |host| (*block, host)))
            .filter(|(_, host)| host.spared.binary_search(&spared).is_err())
            .map(|(block, host)| (block, host.carries))
            .collect();
        found.sort_by_key(|(block, _)| block.prefix_len());
        found.into_iter()
    }
}

/// The chains of a block of addresses. Of several hosts that share it, only a server name tells which one is meant.
fn chains_of_block<'a>(block: IpNet, hosts: &[Carries<'a>]) -> Vec<Chain<'a>> {
    let [only] = hosts else {
        let by_name = hosts.iter().map(|host| {
            let cluster = host.cluster();
            let to = ByServerName { cluster, lookup: None, relay: host.relay() };
            (cluster.host.as_str(), by_server_name(cluster.host.as_str(), Some(block), &to))
        });
        return by_name.collect::<BTreeMap<_, _>>().into_values().collect();
    };
    let matches = ChainMatch { blocks: vec![block], ..Default::default() };
    let all = chain(block.to_string(), matches.clone(), bytes(only));
    let Carries::Either { cluster, mesh, sending, .. } = only else { return vec![all] };
    let raw = ChainMatch { transport: Some(Transport::Raw), ..matches };
    let mut chains = http_chains(&format!("{block} "), raw.clone(), (*cluster, *sending), *mesh);
    chains.push(chain(format!("{block} tcp"), raw, bytes(only)));
    chains.push(all);
    chains
}

fn by_server_name<'a>(name: &'a str, block: Option<IpNet>, to: &ByServerName<'a>) -> Chain<'a> {
    let transport = Some(Transport::Tls);
    let blocks = block.into_iter().collect();
    let matches = ChainMatch { blocks, server_name: Some(name), transport, protocols: &[] };
    let target = Target::Bytes { to: Destination::Cluster(to.cluster), lookup: to.lookup, relay: to.relay };
    match block {
        None => chain(name, matches, target),
        Some(block) => chain(format!("{block} {name}"), matches, target),
    }
}

/// HTTP of both versions to one cluster.
fn http_chains<'a>(
    prefix: &str,
    matches: ChainMatch<'a>,
    (to, sending): (ClusterKey<'a>, Sending<'a>),
    mesh: bool,
) -> Vec<Chain<'a>> {
    const VERSIONS: [(&str, &[&str], &str); 2] =
        [("http/1.1", &["http/1.0", "http/1.1"], "istio-http/1.1"), ("h2c", &["h2c"], "istio-h2")];
    let of_version = |(name, protocols, alpn): (&str, _, _)| {
        let target = Target::Http { to, alpn: mesh.then_some(alpn), sending };
        chain(format!("{prefix}{name}"), ChainMatch { protocols, ..matches.clone() }, target)
    };
    VERSIONS.into_iter().map(of_version).collect()
}

fn bytes<'a>(carries: &Carries<'a>) -> Target<'a> {
    Target::Bytes { to: Destination::Cluster(carries.cluster()), lookup: None, relay: carries.relay() }
}

fn chain<'a>(
    name: impl Into<std::borrow::Cow<'a, str>>,
    matches: ChainMatch<'a>,
    target: Target<'a>,
) -> Chain<'a> {
    Chain { name: name.into(), matches, target }
}
