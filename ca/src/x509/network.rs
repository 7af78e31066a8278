//! Addresses and blocks of addresses, as certificates and flags write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

/// Neither an address nor a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is neither an IP address nor a block of them: write for example 127.0.0.1 or 10.0.0.0/8")]
pub struct NetworkError(String);

/// The address in four or sixteen bytes.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))).ok()
}

/// The block of an address and a mask of the same length, whose ones come first (RFC 5280 §4.2.1.10).
pub(crate) fn of_constraint(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    IpNet::with_netmask(ip(address)?, ip(mask)?).ok()
}

/// The block that a text names: `10.0.0.0/8`, or a single address.
pub(crate) fn parse(text: &str) -> Result<IpNet, NetworkError> {
    let block = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    block.map_err(|_| NetworkError(text.to_owned()))
}
