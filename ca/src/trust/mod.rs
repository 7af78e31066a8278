//! What peers trust: roots, chains to them, revocations, the rotation of roots, and SPIFFE bundles.

pub mod bundle;
pub mod ca_chain;
mod constrained_path;
pub mod revocation;
pub mod rotation;
pub mod spiffe_bundle;
pub mod wall_clock;
