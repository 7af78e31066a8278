//! The pure TLS policy engine: a snapshot of the world in, settings with their trace out.
//!
//! [`Index`] takes changes and says what they touched ([`DirtySet`]); [`Snapshot`] is the frozen world; [`compute`]
//! holds one file for each concern, with every rule of the policy reference at one place, by its number.

pub mod compute;
pub mod diff;
pub mod explain;
pub mod lint;
pub mod report;

pub mod settings;
pub mod trace;

mod address;
mod pair;
mod world;

pub use pair::{ConnectionOutcome, ConnectionReason, Pair, Sends, Server};
pub use world::{ClientScope, DirtySet, Hosts, Index, Snapshot};
