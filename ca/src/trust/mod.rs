//! What peers trust: roots, revocations, the rotation of roots, and SPIFFE bundles.

pub mod bundle;
pub mod revocation;
pub mod rotation;
pub mod spiffe_bundle;
