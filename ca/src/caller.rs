//! Who asks, and how it was proven.

use eastwest_model::SpiffeId;
use time::OffsetDateTime;

/// An object of Kubernetes that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct BoundObject {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    #[serde(default)]
    pub uid: String,
}

/// How an identity was proven. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// A certificate of our own, shown in the TLS handshake.
    ClientCertificate {
        /// Serial number in hexadecimal.
        serial: String,
        /// When it runs out.
        not_after: OffsetDateTime,
    },
    /// A service account's bearer token.
    Token {
        /// `iss`.
        issuer: String,
        /// When it runs out.
        expires: OffsetDateTime,
        /// The pod it is bound to.
        pod: Option<BoundObject>,
        /// The node that pod runs on.
        node: Option<BoundObject>,
    },
    /// Somebody with access to the CA's key itself, at the command line.
    Operator,
}

impl Proof {
    /// A short name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientCertificate { .. } => "client-certificate",
            Self::Token { .. } => "token",
            Self::Operator => "operator",
        }
    }

    /// Until when the proof holds; `None` for ever.
    pub fn expires(&self) -> Option<OffsetDateTime> {
        match self {
            Self::ClientCertificate { not_after, .. } => Some(*not_after),
            Self::Token { expires, .. } => Some(*expires),
            Self::Operator => None,
        }
    }
}

/// An authenticated peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose identity was proven.
    pub identity: SpiffeId,
    /// How.
    pub proof: Proof,
}
