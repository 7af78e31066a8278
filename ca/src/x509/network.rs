//! Blocks of IP addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

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

/// An address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// From an address and a mask of the same length (RFC 5280 §4.2.1.10), whose ones come first.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let (address, mask) = bytes.split_at(bytes.len() / 2);
        let (address, (mask, width)) = (ip(address)?, number(ip(mask)?));
        let prefix = mask.leading_ones();
        let ones_first = mask.checked_shl(prefix).unwrap_or(0) == 0;
        ones_first.then_some(Self { address, prefix: prefix.min(width) })
    }

    /// Whether an address is one of the block; one of the other family never is.
    pub(crate) fn contains(&self, other: IpAddr) -> bool {
        let ((ours, width), (theirs, of_theirs)) = (number(self.address), number(other));
        width == of_theirs && (ours ^ theirs).checked_shr(128 - self.prefix).unwrap_or(0) == 0
    }
}

/// The bits of an address from the highest one, and how many there are.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NetworkError(text.to_owned());
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let (_, width) = number(address);
        let prefix = prefix.map_or(Ok(width), |prefix| prefix.parse().map_err(|_| error()))?;
        if prefix <= width { Ok(Self { address, prefix }) } else { Err(error()) }
    }
}
