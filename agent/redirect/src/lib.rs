//! The rules that send a pod's connections through its sidecar: a typed configuration in, text for iptables or nftables
//! out. Nothing here runs a program.
//!
//! ```text
//! flags, annotations → Redirection → plan (rules of one family) ─┬→ iptables: text for iptables-restore
//!                                                                └→ nftables: a script for nft
//! ```

mod config;
pub mod iptables;
pub mod nftables;
mod plan;
#[cfg(test)]
mod tests;

pub use config::{Redirection, Selected, interfaces, ports, ranges, selected_ports, selected_ranges};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// `IPv4` or `IPv6`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The IPv6 address from which Envoy dials the application (ENVOY.md E2), with its prefix. No interface has it of itself:
/// it has to be added to `lo`.
pub const ENVOY_SOURCE_V6: &str = "::6/128";
