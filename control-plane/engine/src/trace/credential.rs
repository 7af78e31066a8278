//! What a credential gives to a setting, or why it gives nothing (POLICY.md O7).

use std::fmt;

use eastwest_model::{Name, ObjectRef};

use super::{Decision, StepOutcome};

/// What became of a credential that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum CredentialReason {
    /// It gives a part of what the setting needs; `fingerprint` as in [`Secret`](crate::settings::Secret).
    Gives { part: CredentialPart, fingerprint: Name },
    /// The rule that names it gets nothing.
    Withheld { part: CredentialPart, problem: CredentialProblem },
}

/// What a setting takes from a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPart {
    /// The client certificate with its key.
    Certificate,
    /// The roots that servers are verified with.
    TrustBundle,
}

/// Why a credential gives nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum CredentialProblem {
    /// The name is of no kind that a sidecar may read.
    UnknownScheme { name: Name },
    /// A Secret of another namespace than the client's.
    OtherNamespace { object: ObjectRef, client: Name },
    /// It holds a trust bundle, and a certificate is needed.
    BundleOnly { object: ObjectRef },
    /// There is no such object.
    Missing { object: ObjectRef },
    /// What it holds does not parse.
    Invalid { object: ObjectRef, problem: Name },
    /// It has no certificate with key.
    NoCertificate { object: ObjectRef },
    /// It has no trust bundle.
    NoBundle { object: ObjectRef },
}

impl Decision for CredentialReason {
    fn rule(&self) -> &'static str {
        "O7"
    }

    fn outcome(&self) -> StepOutcome {
        match self {
            Self::Gives { .. } => StepOutcome::Inherited,
            Self::Withheld { .. } => StepOutcome::Lost,
        }
    }

    fn winner(&self) -> Option<&ObjectRef> {
        None
    }
}

impl fmt::Display for CredentialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gives { part, fingerprint } => write!(f, "gives the {part}, SHA-256 {fingerprint}"),
            Self::Withheld { part, problem } => {
                write!(f, "no {part}: {problem}; connections fail until it is, none goes out in plaintext")
            }
        }
    }
}

impl fmt::Display for CredentialPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::TrustBundle => "trust bundle",
        })
    }
}

impl fmt::Display for CredentialProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownScheme { name } => write!(
                f,
                "credentialName {name:?} is nothing that a sidecar may read, it must be the name of a Secret or configmap://NAMESPACE/NAME"
            ),
            Self::OtherNamespace { object, client } => write!(
                f,
                "{object} is for clients in namespace {} alone, it must be in {client}",
                object.namespace
            ),
            Self::BundleOnly { object } => write!(
                f,
                "{object} stands for a trust bundle alone, mode MUTUAL must name a Secret with a key"
            ),
            Self::Missing { object } => write!(f, "{object} is not there, it must be added"),
            Self::Invalid { object, problem } => write!(f, "{object} {problem}, it must be corrected"),
            Self::NoCertificate { object } => {
                write!(f, "{object} has neither tls.crt and tls.key nor cert and key, they must be added")
            }
            Self::NoBundle { object } => {
                write!(f, "{object} has neither ca.crt nor cacert, one must be added")
            }
        }
    }
}
