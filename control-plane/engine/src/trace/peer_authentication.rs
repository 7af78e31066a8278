//! Why a PeerAuthentication decides the mode of a server, or does not (POLICY.md P3 to P7).

use std::fmt;

use eastwest_model::{ObjectRef, policy::MutualTlsMode};

use super::{Decision, StepOutcome};

/// The level at which a policy counts (POLICY.md P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Every workload of the mesh.
    Mesh,
    /// The workloads of one namespace.
    Namespace,
    /// The workloads that a selector matches.
    Workload,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mesh => "mesh",
            Self::Namespace => "namespace",
            Self::Workload => "workload",
        })
    }
}

/// What became of a PeerAuthentication.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum PeerAuthenticationReason {
    /// P3: it has a selector and is in the root namespace.
    SelectorInRootNamespace,
    /// P4: another policy of its level is older.
    Younger { level: Level, winner: ObjectRef },
    /// P6: it sets the mode.
    LevelDecides { level: Level, mode: MutualTlsMode },
    /// P6: it sets no mode.
    LevelInherits { level: Level },
    /// P6: a narrower level sets a mode too.
    LevelOverwritten { level: Level, mode: MutualTlsMode, winner: ObjectRef },
    /// P6: no policy sets a mode.
    BuiltIn,
    /// P7: its entry for a container port sets the mode of the port.
    PortDecides { port: u16, mode: MutualTlsMode },
    /// P7: its entry for a container port sets no mode.
    PortInherits { port: u16 },
}

impl Decision for PeerAuthenticationReason {
    fn rule(&self) -> &'static str {
        match self {
            Self::SelectorInRootNamespace => "P3",
            Self::Younger { .. } => "P4",
            Self::LevelDecides { .. }
            | Self::LevelInherits { .. }
            | Self::LevelOverwritten { .. }
            | Self::BuiltIn => "P6",
            Self::PortDecides { .. } | Self::PortInherits { .. } => "P7",
        }
    }

    fn outcome(&self) -> StepOutcome {
        match self {
            Self::LevelDecides { .. } | Self::BuiltIn | Self::PortDecides { .. } => StepOutcome::Won,
            Self::LevelInherits { .. } | Self::PortInherits { .. } => StepOutcome::Inherited,
            Self::SelectorInRootNamespace | Self::Younger { .. } | Self::LevelOverwritten { .. } => {
                StepOutcome::Lost
            }
        }
    }

    fn winner(&self) -> Option<&ObjectRef> {
        match self {
            Self::Younger { winner, .. } | Self::LevelOverwritten { winner, .. } => Some(winner),
            _ => None,
        }
    }
}

impl fmt::Display for PeerAuthenticationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelectorInRootNamespace => {
                f.write_str("a policy with a selector in the root namespace is ignored, whatever it selects")
            }
            Self::Younger { level, winner } => {
                write!(f, "ignored whole: {winner} is the older policy of the {level} level")
            }
            Self::LevelDecides { level, mode } => write!(f, "{level} level: {mode}"),
            Self::LevelInherits { level } => write!(f, "{level} level: UNSET, inherits"),
            Self::LevelOverwritten { level, mode, .. } => {
                write!(f, "{level} level: {mode}, overwritten by a narrower level")
            }
            Self::BuiltIn => f.write_str("no policy sets a mode: PERMISSIVE is built in"),
            Self::PortDecides { port, mode } => write!(f, "portLevelMtls of container port {port}: {mode}"),
            Self::PortInherits { port } => {
                write!(f, "portLevelMtls of container port {port}: UNSET, takes the workload's mode")
            }
        }
    }
}
