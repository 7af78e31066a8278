//! Where the signer and the roots come from, and how they change while everything runs.
//!
//! ```text
//! ca-dir (plugged in) ─┐
//! state directory ─────┴→ RootManager → CertificateAuthority::install → one ca_state for every later request
//! ```
//! The state directory's root is followed by a next one in the steps of [`eastwest_ca::rotation`]: `rotator` takes those
//! that are due, [`manual_rotation`] those that a person asks for, by one record that both read.
//!
//! A directory with a plugged-in CA goes before the state directory, from the moment that a whole CA lies in it. What
//! is bad is told and changes nothing; key material and revocation lists are judged apart. What was in force is kept in
//! the state directory (`memory`), so that a restart forgets no root that certificates depend on, and no revocation.

mod manager;
pub mod manual_rotation;
mod memory;
mod plugged_dir;
mod rotator;
mod steps;

pub use manager::{RootManager, RootsConfig, RootsError};
pub use steps::RotateError;

#[cfg(test)]
mod tests;
