//! What a control plane asks of the Kubernetes API besides its objects, and what it writes there.
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.

mod contention;
pub mod events;
mod request;
mod roots;
mod status;
mod supervision;
mod tokens;

pub use crate::{
    roots::{Publication, Published, publish_roots},
    status::{Findings, write_statuses},
    tokens::TokenIssuer,
};
