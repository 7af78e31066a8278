//! What a control plane writes to the Kubernetes API.
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.

mod contention;
pub mod events;
mod request;
mod roots;
mod status;
mod supervision;

pub use crate::{
    roots::{Publication, Published, publish_roots},
    status::{Findings, write_statuses},
};
