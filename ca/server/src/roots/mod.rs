//! Where the signer and the roots come from, and how they change while everything runs.
//!
//! ```text
//! ca-dir (plugged in) ─┐
//! state directory ─────┴→ Keeper → CertificateAuthority::install → one snapshot for every later request
//! ```
//! A directory with a plugged-in CA goes before the state directory, from the moment that a whole CA lies in it. What
//! is bad is told and changes nothing; key material and revocation lists are judged apart.

mod keeper;
mod plugged_dir;
mod watch;

pub use keeper::{Keeper, RootsConfig, RootsError};
