//! Addresses that listeners and clusters are given, by the families in which the workload has addresses
//! (POLICY.md L9).

use eastwest_engine::listeners::ListenerKey;
use eastwest_model::Families;
use eastwest_proto::envoy::config::{
    cluster::v3::cluster::DnsLookupFamily,
    core::v3::{
        Address, BindConfig, CidrRange, ExtraSourceAddress, SocketAddress, address,
        socket_address::PortSpecifier,
    },
    listener::v3::AdditionalAddress,
};
use ipnet::IpNet;

/// The source addresses of connections to the application, IPv4 and IPv6: without them the redirection would catch
/// these connections again (ENVOY.md E2).
const INBOUND_SOURCES: (&str, &str) = ("127.0.0.6", "::6");

/// A port of a workload at which intercepted connections arrive, at all its addresses.
#[derive(Debug, Hash, Clone, Copy)]
pub(crate) struct Interception {
    pub(crate) port: u16,
    pub(crate) families: Families,
}

impl Interception {
    /// Where its listener binds: the first address, and those in addition.
    pub(crate) fn addresses(self) -> (Option<Address>, Vec<AdditionalAddress>) {
        listening(&ListenerKey::any_address(self.port, self.families))
    }
}

/// The addresses of a listener: the first one, and those in addition.
pub(crate) fn listening(key: &ListenerKey) -> (Option<Address>, Vec<AdditionalAddress>) {
    let addresses = key.addresses();
    let mut all = addresses.iter().map(|address| socket_address(&address.to_string(), key.port));
    let first = all.next();
    let more = all.map(|address| AdditionalAddress { address: Some(address), ..Default::default() });
    (first, more.collect())
}

/// What connections to the application bind. Envoy takes the source of the family that it dials.
pub(crate) fn inbound_source(families: Families) -> BindConfig {
    let (ipv4, ipv6) = INBOUND_SOURCES;
    let mut all = families.each(ipv4, ipv6).into_iter().map(|address| socket(address, 0));
    let source_address = all.next();
    let more = all.map(|address| ExtraSourceAddress { address: Some(address), ..Default::default() });
    BindConfig { source_address, extra_source_addresses: more.collect(), ..Default::default() }
}

/// Which addresses of a name Envoy dials: IPv4 ones, else IPv6 ones; the other way round where the workload has no IPv4
/// address.
pub(crate) fn lookup(families: Families) -> DnsLookupFamily {
    match families {
        Families::IPv4 | Families::Both => DnsLookupFamily::V4Preferred,
        Families::IPv6 => DnsLookupFamily::Auto,
    }
}

/// A block of addresses.
pub(crate) fn range(block: &IpNet) -> CidrRange {
    CidrRange { address_prefix: block.addr().to_string(), prefix_len: Some(block.prefix_len().into()) }
}

/// A TCP address.
pub(crate) fn socket_address(host: &str, port: u16) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket(host, port))) }
}

fn socket(host: &str, port: u16) -> SocketAddress {
    SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    }
}
