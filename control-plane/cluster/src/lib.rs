//! What a control plane writes to the Kubernetes API.
//!
//! | module | what it does |
//! |---|---|
//! | [`election`] | the Lease that elects the one replica that writes |
//! | [`secrets`] | the key material of the CA in Secrets |
//! | `request` | one request, with a deadline and errors that name the missing RBAC rule |
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.

pub mod election;
mod request;
pub mod secrets;

pub use election::Election;
pub use secrets::CaSecrets;
