//! Why a Service or ServiceEntry owns a host, or does not (POLICY.md D11, D12).

use std::fmt;

use eastwest_model::{Name, ObjectRef};

use super::{Decision, StepOutcome};

/// What became of an object that claims a host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum HostReason {
    /// The owner is of the same namespace: both describe the host.
    AddsTo { owner: ObjectRef },
    /// Another object owns the host for the clients of a namespace.
    OwnedBy { owner: ObjectRef, client: Name },
    /// It owns the host, and leaves addresses to a Service of another namespace.
    LeavesAddresses { service: ObjectRef, client: Name },
}

impl Decision for HostReason {
    fn rule(&self) -> &'static str {
        match self {
            Self::AddsTo { .. } | Self::OwnedBy { .. } => "D11",
            Self::LeavesAddresses { .. } => "D12",
        }
    }

    fn outcome(&self) -> StepOutcome {
        match self {
            Self::AddsTo { .. } | Self::LeavesAddresses { .. } => StepOutcome::Inherited,
            Self::OwnedBy { .. } => StepOutcome::Lost,
        }
    }

    fn winner(&self) -> Option<&ObjectRef> {
        match self {
            Self::AddsTo { .. } | Self::LeavesAddresses { .. } => None,
            Self::OwnedBy { owner, .. } => Some(owner),
        }
    }
}

impl fmt::Display for HostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddsTo { owner } => {
                write!(f, "adds its endpoints and accounts to {owner}, of the same namespace")
            }
            Self::OwnedBy { owner, client } => {
                write!(f, "{owner} owns the host for clients in namespace {client}")
            }
            Self::LeavesAddresses { service, client } => write!(
                f,
                "addresses that {service} has stay with that Service for clients in namespace {client}"
            ),
        }
    }
}
