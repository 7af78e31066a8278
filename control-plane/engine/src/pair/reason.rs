//! Why a connection succeeds or fails.

use std::fmt;

use eastwest_model::{SpiffeId, policy::MutualTlsMode};
use serde::{Serialize, Serializer};

use crate::trace::Reason;

/// Why a connection has its outcome. As text: the reason for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionReason {
    /// Plaintext to a server without a proxy.
    NoProxy,
    /// Originated TLS to a server without a proxy.
    NoProxyForTls,
    /// The mesh's mutual TLS to a server without a proxy.
    NoProxyForMutualTls,
    /// The server's mode accepts what the client sends.
    Accepted(MutualTlsMode),
    /// The mesh's mutual TLS to a server in mode DISABLE.
    PlaintextOnly,
    /// Plaintext to a server in mode STRICT.
    MutualTlsOnly,
    /// Originated TLS with a certificate to a server in mode STRICT.
    NeedsMeshCertificate,
    /// Originated TLS without a certificate to a server in mode STRICT.
    NeedsClientCertificate,
    /// Originated TLS to an HTTP port of a server in mode PERMISSIVE.
    NoChainForTls,
    /// Originated TLS to an HTTP port of a server in mode DISABLE.
    PlaintextHttpOnly,
    /// Originated TLS to a server whose proxy passes TLS on.
    PassedToApplication(MutualTlsMode),
    /// The client does not accept the identity of the server (O2).
    UnexpectedIdentity(SpiffeId),
    /// The client gets no credential (O7).
    Withheld(Box<Reason>),
}

impl fmt::Display for ConnectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoProxy => "the server has no proxy of the mesh",
            Self::NoProxyForTls => "the server has no proxy of the mesh and must answer TLS itself",
            Self::NoProxyForMutualTls => {
                "the client insists on the mesh's mutual TLS, and the server has no proxy of the mesh"
            }
            Self::PlaintextOnly => "the server's proxy reads plaintext alone, not the mesh's mutual TLS",
            Self::MutualTlsOnly => {
                "the server's proxy takes mutual TLS alone: no filter chain matches plaintext"
            }
            Self::NeedsMeshCertificate => {
                "the server's proxy is STRICT: it takes the rule's certificate only if the mesh's CA signed it"
            }
            Self::NeedsClientCertificate => {
                "the server's proxy is STRICT and wants a client certificate, which SIMPLE does not send"
            }
            Self::NoChainForTls => {
                "the server's proxy is PERMISSIVE and the port is declared HTTP: TLS from outside the mesh matches no filter chain"
            }
            Self::PlaintextHttpOnly => {
                "the server's proxy is DISABLE and reads HTTP in plaintext on this port"
            }
            Self::Accepted(mode) => return write!(f, "the server is {mode}"),
            Self::PassedToApplication(mode) => {
                return write!(f, "the server's proxy is {mode} and hands TLS on to the application");
            }
            Self::UnexpectedIdentity(identity) => {
                return write!(
                    f,
                    "the server is {identity}, and the client accepts none but its subject_alt_names"
                );
            }
            Self::Withheld(reason) => return reason.fmt(f),
        })
    }
}

impl Serialize for ConnectionReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
