//! Where an endpoint is.

use std::{fmt, net::SocketAddr};

use eastwest_model::Name;

/// Address and port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum EndpointAddress {
    Socket(SocketAddr),
    Dns { host: Name, port: u16 },
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => write!(f, "{socket}"),
            Self::Dns { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
