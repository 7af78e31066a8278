//! What a host contributes to outbound listeners.

use std::net::{IpAddr, SocketAddr};

use eastwest_model::{
    Host, Kind,
    service::{Protocol, TargetPort},
};
use ipnet::IpNet;

use super::{Addresses, ClusterKey, ListenerKey};
use crate::{
    settings::{ClientTlsSetting, Discovery, OutboundCluster, OutboundService},
    traffic::{Relay, Sending},
};

/// What a host contributes to a listener. Parts are equal if they make the same filter chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerPart<'a> {
    /// To the listener of all addresses of a port: it has routes there.
    Routes {
        /// The host.
        host: &'a Host,
        /// They lead to hosts that are looked up when they are called.
        dynamic: bool,
    },
    /// To the listener of all addresses: it carries bytes, and only its name tells it from other hosts.
    Named {
        /// The host.
        host: &'a Host,
        /// Where TLS of the application that asks for the host leads; `None` for wildcards that Envoy does not take.
        by_name: Option<ByServerName<'a>>,
        /// Where other bytes lead, and how, if no other host can be meant.
        bytes: Option<(ClusterKey<'a>, Relay)>,
    },
    /// To the listener of all addresses: the host has a block of them.
    Block {
        /// The block.
        block: IpNet,
        /// Addresses in it, with any port, that are left to others.
        spared: &'a [SocketAddr],
        /// What is done with connections to it.
        carries: Carries<'a>,
    },
    /// To the listener of its own address.
    OwnAddress(Carries<'a>),
}

/// Where a server name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByServerName<'a> {
    /// The cluster.
    pub cluster: ClusterKey<'a>,
    /// The port at which the name is looked up and dialled, if the cluster does not know where it is.
    pub lookup: Option<u16>,
    /// How its bytes are handed on.
    pub relay: Relay,
}

/// What is done with connections to an address of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carries<'a> {
    /// Bytes go to a cluster.
    Bytes {
        /// The cluster.
        cluster: ClusterKey<'a>,
        /// How.
        relay: Relay,
    },
    /// HTTP or bytes, found out from the first bytes, go to a cluster.
    Either {
        /// The cluster.
        cluster: ClusterKey<'a>,
        /// Whether a sidecar of the mesh may be at the other end, which must be told what comes.
        mesh: bool,
        /// How bytes go.
        relay: Relay,
        /// How requests go.
        sending: Sending<'a>,
    },
}

/// What a host contributes to listeners.
pub fn parts(service: &OutboundService) -> Vec<(ListenerKey, ListenerPart<'_>)> {
    let mut parts = Vec::new();
    for cluster in service.whole() {
        let port = cluster.port.number;
        let any = ListenerKey::any_address(port, service.families);
        parts.extend(routes(service, cluster).map(|part| (any, part)));
        parts.extend(named(service, cluster).map(|part| (any, part)));
        if cluster.port.protocol.is_http() {
            continue;
        }
        let carries = Carries::of(cluster);
        let is_dialled = |address: &IpAddr| service.families.contain(*address);
        let blocks = service.blocks.iter().filter(|block| is_dialled(&block.addr()));
        parts.extend(
            blocks
                .map(|block| (any, ListenerPart::Block { block: *block, spared: &service.spared, carries })),
        );
        let own =
            |one| (ListenerKey { addresses: Addresses::One(one), port }, ListenerPart::OwnAddress(carries));
        parts.extend(addresses(service, cluster).into_iter().filter(is_dialled).map(own));
    }
    parts
}

fn routes<'a>(service: &'a OutboundService, cluster: &OutboundCluster) -> Option<ListenerPart<'a>> {
    let dynamic = cluster.discovery == Discovery::DynamicForwardProxy;
    is_routed(service, cluster).then_some(ListenerPart::Routes { host: &service.host, dynamic })
}

fn named<'a>(service: &'a OutboundService, cluster: &'a OutboundCluster) -> Option<ListenerPart<'a>> {
    if cluster.port.protocol.is_http() || !service.is_addressless() {
        return None;
    }
    let dynamic = cluster.discovery == Discovery::DynamicForwardProxy;
    let lookup = dynamic.then_some(match cluster.port.target {
        TargetPort::Number(number) => number,
        TargetPort::Named(_) => cluster.port.number,
    });
    // Envoy takes wildcards of whole labels only.
    let is_label = service.host.wildcard_suffix().is_none_or(|suffix| suffix.starts_with('.'));
    let relay = cluster.traffic.relay;
    let cluster = ClusterKey::of(cluster);
    Some(ListenerPart::Named {
        host: &service.host,
        by_name: is_label.then_some(ByServerName { cluster, lookup, relay }),
        // Bytes without a name give nothing to look up.
        bytes: (!dynamic).then_some((cluster, relay)),
    })
}

/// Whether requests find the cluster by their Host header. Where nothing is declared, but the service has an address,
/// that address is enough.
pub(super) fn is_routed(service: &OutboundService, cluster: &OutboundCluster) -> bool {
    match cluster.port.protocol {
        Protocol::Http | Protocol::Http2 => true,
        Protocol::Tcp | Protocol::Tls => false,
        Protocol::Undeclared => service.is_addressless(),
    }
}

/// Where clients dial: the single virtual addresses, else, for a headless service, its pods.
fn addresses(service: &OutboundService, cluster: &OutboundCluster) -> Vec<IpAddr> {
    match service.addresses.is_empty() && service.owner.kind == Kind::Service {
        true => cluster.endpoints.iter().filter_map(|endpoint| endpoint.address.ip()).collect(),
        false => service.addresses.clone(),
    }
}

impl<'a> Carries<'a> {
    fn of(cluster: &'a OutboundCluster) -> Self {
        let (key, relay) = (ClusterKey::of(cluster), cluster.traffic.relay);
        match cluster.port.protocol {
            Protocol::Undeclared => {
                let mesh =
                    matches!(cluster.tls, ClientTlsSetting::Auto(_) | ClientTlsSetting::IstioMutual(_));
                Self::Either { cluster: key, mesh, relay, sending: cluster.sending() }
            }
            _ => Self::Bytes { cluster: key, relay },
        }
    }

    pub(super) fn cluster(&self) -> ClusterKey<'a> {
        match self {
            Self::Bytes { cluster, .. } | Self::Either { cluster, .. } => *cluster,
        }
    }

    /// How bytes are handed on.
    pub(super) fn relay(&self) -> Relay {
        match self {
            Self::Bytes { relay, .. } | Self::Either { relay, .. } => *relay,
        }
    }
}
