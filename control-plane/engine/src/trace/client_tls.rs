//! Why a cluster has its TLS setting (POLICY.md T4, A1 to A6, O7, O9).

use std::fmt;

use eastwest_model::{Name, ObjectRef, policy::ClientTlsMode};

use super::{Decision, StepOutcome};
use crate::address::EndpointAddress;

/// What decided the TLS setting of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum ClientTlsReason {
    /// T4: a `tls` block. `own_certificate`: the chain of the proxy's own certificate, where it is used (O9).
    Block { mode: ClientTlsMode, own_certificate: Option<Name> },
    /// O7: a `tls` block with a credential in a rule without a workloadSelector.
    CredentialNeedsSelector { mode: ClientTlsMode },
    /// A0: auto mutual TLS is off.
    AutoDisabled,
    /// A1: the host is outside the mesh.
    External,
    /// A2: the policy of the host's namespace, or of the mesh, is DISABLE.
    NamespaceDisabled { namespace: Name },
    /// A2: the namespace of the host takes mutual TLS.
    NamespaceAccepts { namespace: Name },
    /// A2 and O9: likewise, with the certificate of the proxy, by its chain.
    NamespaceAcceptsOwnCertificate { namespace: Name, chain: Name },
    /// A5: the original destination is dialled, and no endpoint is known.
    PassthroughUnknown,
    /// A5: the original destination is dialled, and an endpoint is outside the mesh.
    PassthroughOutside { address: EndpointAddress },
    /// A6: a port entry takes the block away, and the endpoints are still marked by its mode.
    MarkedByReplacedBlock { port: u16, mode: ClientTlsMode },
}

impl Decision for ClientTlsReason {
    fn rule(&self) -> &'static str {
        match self {
            Self::Block { .. } => "T4",
            Self::CredentialNeedsSelector { .. } => "O7",
            Self::AutoDisabled => "A0",
            Self::External => "A1",
            Self::NamespaceDisabled { .. } | Self::NamespaceAccepts { .. } => "A2",
            Self::NamespaceAcceptsOwnCertificate { .. } => "O9",
            Self::PassthroughUnknown | Self::PassthroughOutside { .. } => "A5",
            Self::MarkedByReplacedBlock { .. } => "A6",
        }
    }

    fn outcome(&self) -> StepOutcome {
        match self {
            Self::MarkedByReplacedBlock { .. } => StepOutcome::Inherited,
            _ => StepOutcome::Won,
        }
    }

    fn winner(&self) -> Option<&ObjectRef> {
        None
    }
}

impl fmt::Display for ClientTlsReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { mode, own_certificate } => {
                write!(f, "tls block: {mode}")?;
                own_certificate.iter().try_for_each(|chain| write_own_certificate(f, chain))
            }
            Self::CredentialNeedsSelector { mode } => write!(
                f,
                "tls block asks for {mode} with a credentialName, but the rule has no workloadSelector: plaintext"
            ),
            Self::AutoDisabled => f.write_str("enableAutoMtls is false and no rule has a tls block"),
            Self::External => {
                f.write_str("the host is outside the mesh (MESH_EXTERNAL) and no rule has a tls block")
            }
            Self::NamespaceDisabled { namespace } => {
                write!(f, "DISABLE for the whole of namespace {namespace}")
            }
            Self::NamespaceAccepts { namespace } => write!(f, "namespace {namespace} takes mutual TLS"),
            Self::NamespaceAcceptsOwnCertificate { namespace, chain } => {
                write!(f, "namespace {namespace} takes mutual TLS")?;
                write_own_certificate(f, chain)
            }
            Self::PassthroughUnknown => {
                f.write_str("traffic passes through to the original destination and no endpoint is known")
            }
            Self::PassthroughOutside { address } => write!(
                f,
                "traffic passes through to the original destination and {address} is outside the mesh"
            ),
            Self::MarkedByReplacedBlock { port, mode } => write!(
                f,
                "the entry for port {port} has no tls block and puts the port on auto, but its endpoints are still marked by the {mode} that the entry replaces"
            ),
        }
    }
}

fn write_own_certificate(f: &mut fmt::Formatter<'_>, chain: &str) -> fmt::Result {
    write!(f, ", with the certificate that the proxy brings along, {chain} (rule O9)")
}
