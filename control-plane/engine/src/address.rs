//! Where an endpoint is.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use eastwest_model::Name;

/// Address and port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum EndpointAddress {
    Socket(SocketAddr),
    Dns { host: Name, port: u16 },
}

impl EndpointAddress {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(socket) => socket.port(),
            Self::Dns { port, .. } => *port,
        }
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(socket) => Some(socket.ip()),
            Self::Dns { .. } => None,
        }
    }
}

/// An address as the host of a URL or of a Host header: IPv6 stands in brackets (RFC 3986, section 3.2.2).
pub(crate) fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => write!(f, "{socket}"),
            Self::Dns { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
