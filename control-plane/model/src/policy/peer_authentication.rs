//! PeerAuthentication: what a server accepts from its callers (POLICY.md P1 to P10).

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::meta::{Meta, Selector};

/// What a server does with callers. UNSET is `None` until merged (POLICY.md P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MutualTlsMode {
    /// Plaintext only.
    Disable,
    /// Mutual TLS and plaintext.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl fmt::Display for MutualTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        })
    }
}

/// A PeerAuthentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Metadata.
    pub meta: Meta,
    /// Which workloads; empty = the namespace, or the mesh from the root namespace (P2).
    pub selector: Selector,
    /// `mtls.mode`; `None` = UNSET, missing or `{}`.
    pub mode: Option<MutualTlsMode>,
    /// `portLevelMtls` by container port (P7, P8); `None` = UNSET or `{}`.
    pub ports: BTreeMap<u16, Option<MutualTlsMode>>,
}

impl PeerAuthentication {
    /// Whether it closes a port to plaintext, or all of them.
    pub fn asks_for_strict(&self) -> bool {
        self.ports.values().chain([&self.mode]).flatten().any(|mode| *mode == MutualTlsMode::Strict)
    }
}
