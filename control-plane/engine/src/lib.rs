//! The pure TLS policy engine: a snapshot of the mesh in, settings with their trace out.
//!
//! [`Index`] applies changes and returns what they may have touched ([`DirtySet`]); [`Snapshot`] is its frozen state.
//! [`compute`] has one file for each concern, and each rule of docs/POLICY.md in one place, by its number.

pub mod access;
mod calls;
pub mod can;
pub mod cluster_policy;
pub mod compute;
pub mod diff;
pub mod explain;
pub mod lint;
pub mod listeners;
pub mod report;
pub mod route;

pub mod settings;
pub mod trace;
pub mod traffic;

mod address;
mod pair;
mod world;

pub use calls::Port;
pub use pair::{ConnectionOutcome, ConnectionReason, Pair, Sends, Server};
pub use world::{ClientScope, Counts, DirtySet, Hosts, Index, Snapshot};
