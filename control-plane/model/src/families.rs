//! IPv4 and IPv6.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;

/// A family of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[allow(missing_docs)]
pub enum Family {
    IPv4,
    IPv6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::IPv4,
            IpAddr::V6(_) => Self::IPv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}

/// The families in which a workload has addresses: at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Families {
    /// IPv4 alone.
    IPv4,
    /// IPv6 alone.
    IPv6,
    /// Both; also of a workload whose addresses are not known, for either may come.
    #[default]
    Both,
}

impl Families {
    /// Those of some addresses, `None` if there is none that others could dial: link-local and unspecified addresses do
    /// not count.
    pub fn of(addresses: &[IpAddr]) -> Option<Self> {
        let counts = |address: &&IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
        };
        let single = |address: &IpAddr| match Family::of(*address) {
            Family::IPv4 => Self::IPv4,
            Family::IPv6 => Self::IPv6,
        };
        addresses.iter().filter(counts).map(single).reduce(Self::and)
    }

    /// The families of either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Both }
    }

    /// The only family, if it is one.
    pub fn only(self) -> Option<Family> {
        match self {
            Self::IPv4 => Some(Family::IPv4),
            Self::IPv6 => Some(Family::IPv6),
            Self::Both => None,
        }
    }

    /// Whether the family of an address is among them.
    pub fn contain(self, address: IpAddr) -> bool {
        self.only().is_none_or(|only| only == Family::of(address))
    }

    /// One value for each family, IPv4 first.
    pub fn each<T>(self, ipv4: T, ipv6: T) -> Vec<T> {
        match self {
            Self::IPv4 => vec![ipv4],
            Self::IPv6 => vec![ipv6],
            Self::Both => vec![ipv4, ipv6],
        }
    }

    /// The addresses that stand for all of each family: `0.0.0.0`, `::`.
    pub fn wildcards(self) -> Vec<IpAddr> {
        self.each(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_could_dial_do_not_count() {
        let of = |addresses: &[&str]| {
            Families::of(&addresses.iter().map(|one| one.parse().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["10.0.0.1"]), Some(Families::IPv4));
        assert_eq!(of(&["fd00::1", "2001:db8::1"]), Some(Families::IPv6));
        assert_eq!(of(&["fd00::1", "10.0.0.1"]), Some(Families::Both));
        assert_eq!(of(&["10.0.0.1", "fe80::1", "::", "169.254.1.1"]), Some(Families::IPv4));
        assert_eq!(of(&["fe80::1"]), None);
    }
}
