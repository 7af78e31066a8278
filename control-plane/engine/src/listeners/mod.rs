//! Where the connections of an application go: outbound listeners, their filter chains and virtual hosts, as values.
//!
//! Envoy's resources are rendered from these values, and [`Listeners::resolve`] reads the same ones, so that what
//! `explain`, `tls`, `check` and `diff` say about a call is what a proxy does with it.

mod listener;
mod parts;
mod resolve;
mod virtual_hosts;

use std::{borrow::Cow, net::IpAddr};

use eastwest_model::{Families, Host, mesh::OutboundTrafficPolicy};
use ipnet::IpNet;

use crate::{
    settings::OutboundCluster,
    traffic::{Relay, Sending},
};

pub use listener::Listener;
pub use parts::{ByServerName, Carries, ListenerPart, parts};
pub use resolve::{Call, FirstBytes, Listeners, Reached, Resolved};
pub use virtual_hosts::{
    HostRoutes, UNKNOWN_HOST_STATUS, VirtualHost, VirtualHosts, host_routes, unknown_virtual_host,
};

/// The cluster that takes connections to hosts that no service knows: it dials where they wanted to go.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// The cluster of connections that must not go anywhere.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// The listener that takes all outbound connections and hands them to the listener of their address.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Where intercepted inbound connections usually arrive: no other listener may have that port of all addresses.
pub const INBOUND_PORT: u16 = 15006;
/// Where intercepted outbound connections usually arrive, alike.
pub const OUTBOUND_PORT: u16 = 15001;
/// What the HTTP inspector finds in plaintext.
pub const PLAIN_HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// The addresses and the port that a listener stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// The addresses.
    pub addresses: Addresses,
    /// The port.
    pub port: u16,
}

/// The addresses that a listener stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Addresses {
    /// All of some families that have no listener of their own.
    Any(Families),
    /// One.
    One(IpAddr),
}

impl ListenerKey {
    /// The other addresses of a port, for clients with addresses of these families.
    pub fn any_address(port: u16, families: Families) -> Self {
        Self { addresses: Addresses::Any(families), port }
    }

    /// The address as Envoy writes it, and those in addition: `0.0.0.0` or `::` for all of a family.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.addresses {
            Addresses::Any(families) => families.wildcards(),
            Addresses::One(address) => vec![address],
        }
    }

    /// The families of its addresses.
    pub fn families(&self) -> Families {
        match self.addresses {
            Addresses::Any(families) => families,
            Addresses::One(address) => Families::of(&[address]).unwrap_or_default(),
        }
    }

    /// The name of the listener, by its first address, e.g. `0.0.0.0_80`, `::_80`.
    pub fn name(&self) -> String {
        let first = self.addresses().first().map(ToString::to_string).unwrap_or_default();
        format!("{first}_{}", self.port)
    }
}

/// A cluster without a subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey<'a> {
    /// The host.
    pub host: &'a Host,
    /// The service port.
    pub port: u16,
}

impl<'a> ClusterKey<'a> {
    fn of(cluster: &'a OutboundCluster) -> Self {
        Self { host: &cluster.host, port: cluster.port.number }
    }

    /// The name of the cluster.
    pub fn name(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host)
    }
}

/// The connections that a filter chain takes. What is empty or `None` takes any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch<'a> {
    /// The addresses to which they go: those of any of these blocks.
    pub blocks: Vec<IpNet>,
    /// The server name that they ask for: a host, or a wildcard of whole labels.
    pub server_name: Option<&'a str>,
    /// `tls` or `raw_buffer`.
    pub transport: Option<Transport>,
    /// What is found in the first bytes: see [`PLAIN_HTTP`].
    pub protocols: &'static [&'static str],
}

/// Whether a connection begins with a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// It does.
    Tls,
    /// It does not, or nobody looked.
    Raw,
}

impl Transport {
    /// As Envoy names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Raw => "raw_buffer",
        }
    }
}

/// A filter chain of an outbound listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain<'a> {
    /// Its name, unique in the listener.
    pub name: Cow<'a, str>,
    /// What it takes.
    pub matches: ChainMatch<'a>,
    /// What becomes of that.
    pub target: Target<'a>,
}

/// What a filter chain does with a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// Hands its bytes on.
    Bytes {
        /// Where to.
        to: Destination<'a>,
        /// The port at which the server name is looked up and dialled, if the cluster does not know where it is.
        lookup: Option<u16>,
        /// How.
        relay: Relay,
    },
    /// Routes its requests by the virtual hosts of the port.
    Routes {
        /// Some routes lead to hosts that are looked up when they are called.
        dynamic: bool,
    },
    /// Sends all its requests to one cluster.
    Http {
        /// The cluster.
        to: ClusterKey<'a>,
        /// What the server's sidecar is told to expect, if there may be one (POLICY.md O3).
        alpn: Option<&'static str>,
        /// How.
        sending: Sending<'a>,
    },
}

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination<'a> {
    /// To a cluster of a host.
    Cluster(ClusterKey<'a>),
    /// To the address that the application dialled, as they are.
    Passthrough,
    /// Nowhere.
    BlackHole,
}

impl Destination<'_> {
    /// Where connections to unknown hosts go.
    pub fn unknown(policy: OutboundTrafficPolicy) -> Self {
        match policy {
            OutboundTrafficPolicy::AllowAny => Self::Passthrough,
            OutboundTrafficPolicy::RegistryOnly => Self::BlackHole,
        }
    }

    /// The name of the cluster.
    pub fn cluster_name(&self) -> Cow<'static, str> {
        match self {
            Self::Cluster(cluster) => cluster.name().into(),
            Self::Passthrough => PASSTHROUGH_CLUSTER.into(),
            Self::BlackHole => BLACK_HOLE_CLUSTER.into(),
        }
    }
}
