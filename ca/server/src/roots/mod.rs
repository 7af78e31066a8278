//! Where the signer and the roots come from, and how they change while everything runs.
//!
//! ```text
//! ca-dir or Secret (plugged in) ──┐
//! state directory or Secret ──────┴→ RootManager → CertificateAuthority::install → one ca_state for every later request
//! ```
//! Our own root is followed by a next one in the steps of [`eastwest_ca::rotation`]: `rotator` takes those
//! that are due, [`manual_rotation`] those that a person asks for, by one record that both read.
//!
//! A plugged-in CA goes before our own root, from the moment that a whole CA is there. What is bad is told and changes
//! nothing; key material and revocation lists are judged apart. What was in force is kept where the CA keeps its state
//! (`memory`), so that a restart forgets no root that certificates depend on, and no revocation.

mod config;
mod manager;
pub mod manual_rotation;
mod memory;
mod plugged_source;
mod rotator;
mod start;
mod steps;

pub use config::{RootsConfig, RootsError};
pub use manager::RootManager;
pub use memory::{IN_FORCE, LISTS, check_memory, last_root};
pub use plugged_source::{PluggedSecret, PluggedSource};
pub use steps::RotateError;

#[cfg(test)]
mod tests;
