//! An authenticated caller and its proof of identity.

use std::time::Duration;

use eastwest_identity::{SpiffeId, WorkloadKey};
use time::OffsetDateTime;

use crate::names::AllowedNames;

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
    /// A client certificate of our own CA.
    ClientCertificate {
        /// Serial number in hexadecimal.
        serial: String,
        /// When it expires.
        not_after: OffsetDateTime,
    },
    /// A service account's bearer token, verified here.
    Token {
        /// `iss`.
        issuer: String,
        /// When it expires.
        expires: OffsetDateTime,
        /// The service account that it was made for, if the token has its UID.
        account: Option<BoundObject>,
        /// The pod it is bound to.
        pod: Option<BoundObject>,
        /// The node that pod runs on.
        node: Option<BoundObject>,
    },
    /// A service account's bearer token, verified by the Kubernetes API (TokenReview).
    Reviewed {
        /// When it expires, if the token says so.
        expires: Option<OffsetDateTime>,
        /// The pod it is bound to.
        pod: Option<BoundObject>,
        /// The node that pod runs on.
        node: Option<BoundObject>,
    },
    /// An OIDC token of a CI job that matches one of the operator's rules.
    Oidc {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
        /// Name of the rule.
        rule: String,
        /// When the token expires.
        expires: OffsetDateTime,
    },
    /// The operator at the command line, with access to the key of the CA.
    Operator,
}

impl Proof {
    /// A short name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientCertificate { .. } => "client-certificate",
            Self::Token { .. } => "token",
            Self::Reviewed { .. } => "token-review",
            Self::Oidc { .. } => "oidc",
            Self::Operator => "operator",
        }
    }

    /// `iss` of the token, if it is part of the proof.
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::Token { issuer, .. } | Self::Oidc { issuer, .. } => Some(issuer),
            Self::ClientCertificate { .. } | Self::Reviewed { .. } | Self::Operator => None,
        }
    }

    /// `sub` of the token, where the identity does not follow from it alone.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Oidc { subject, .. } => Some(subject),
            _ => None,
        }
    }

    /// Serial number of the certificate, in hexadecimal.
    pub fn serial(&self) -> Option<&str> {
        match self {
            Self::ClientCertificate { serial, .. } => Some(serial),
            _ => None,
        }
    }

    /// When the proof expires; `None` if it does not.
    pub fn expires(&self) -> Option<OffsetDateTime> {
        match self {
            Self::ClientCertificate { not_after, .. } => Some(*not_after),
            Self::Token { expires, .. } | Self::Oidc { expires, .. } => Some(*expires),
            Self::Reviewed { expires, .. } => *expires,
            Self::Operator => None,
        }
    }

    /// The service account that the proof was made for, with its UID.
    pub fn account(&self) -> Option<&BoundObject> {
        match self {
            Self::Token { account, .. } => account.as_ref(),
            // The API compares the UIDs itself.
            Self::Reviewed { .. } | Self::ClientCertificate { .. } | Self::Oidc { .. } | Self::Operator => {
                None
            }
        }
    }

    /// The pod that the proof is bound to.
    pub fn pod(&self) -> Option<&BoundObject> {
        match self {
            Self::Token { pod, .. } | Self::Reviewed { pod, .. } => pod.as_ref(),
            Self::ClientCertificate { .. } | Self::Oidc { .. } | Self::Operator => None,
        }
    }

    /// The node that the proof is bound to.
    pub fn node(&self) -> Option<&BoundObject> {
        match self {
            Self::Token { node, .. } | Self::Reviewed { node, .. } => node.as_ref(),
            Self::ClientCertificate { .. } | Self::Oidc { .. } | Self::Operator => None,
        }
    }
}

/// The workload that a node proxy requests a certificate for. Only [`NodeAccounts`](crate::NodeAccounts) creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Represented {
    pub(crate) identity: SpiffeId,
    pub(crate) node: String,
    pub(crate) pod: WorkloadKey,
}

impl Represented {
    /// Its identity.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The node of both.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A pod there that has the identity.
    pub fn pod(&self) -> &WorkloadKey {
        &self.pod
    }
}

/// An authenticated peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The proven identity.
    pub identity: SpiffeId,
    /// How.
    pub proof: Proof,
    /// Longest lifetime of its certificates, if the proof limits it.
    pub max_life: Option<Duration>,
    /// The names that its certificates may have beside the identity, if the proof says which.
    pub allowed_names: Option<AllowedNames>,
    represented: Option<Represented>,
}

impl Caller {
    /// A caller that acts for itself.
    pub fn new(identity: SpiffeId, proof: Proof) -> Self {
        Self { identity, proof, max_life: None, allowed_names: None, represented: None }
    }

    /// The same caller with a bound on the lifetime of its certificates.
    #[must_use]
    pub fn living_at_most(self, life: Duration) -> Self {
        Self { max_life: Some(life), ..self }
    }

    /// The same caller, whose certificates may have these names and no others beside the identity.
    #[must_use]
    pub fn naming(self, names: AllowedNames) -> Self {
        Self { allowed_names: Some(names), ..self }
    }

    /// The workload that the caller represents, if any.
    pub fn represented(&self) -> Option<&Represented> {
        self.represented.as_ref()
    }

    /// The identity that the caller's certificate will name.
    pub fn subject(&self) -> &SpiffeId {
        self.represented.as_ref().map_or(&self.identity, Represented::identity)
    }

    /// The same caller, representing a workload.
    pub(crate) fn on_behalf_of(self, represented: Represented) -> Self {
        Self { represented: Some(represented), ..self }
    }
}
