//! Trust bundles out and in (SPIFFE Trust Domain and Bundle; SPIFFE Federation).
//!
//! ```text
//! CA ── own ──┬→ endpoint   (HTTPS: other domains' control planes)
//!             └→ published ──→ service  (gRPC: our agents, and by them our workloads)
//! others ── federation ──┘
//! ```
//! Bundles of other domains are for workloads. The CA authenticates its own callers with its own roots only.

pub mod endpoint;
pub mod federation;
mod own;
mod published;
mod service;

pub use own::{DEFAULT_REFRESH_HINT, OwnBundle, of_state_dir, svid_key};
pub use published::{Published, publish};
pub use service::IdentityService;
