//! Trust bundles out and in (SPIFFE Trust Domain and Bundle; SPIFFE Federation).
//!
//! ```text
//! CA ── own ──┬→ endpoint   (HTTPS: other domains' control planes)
//!             └→ published ──→ service  (gRPC: our agents, and by them our workloads)
//! others ── federation ──┘
//! ```
//! What comes in says whom workloads may talk to, never who a caller of ours is: the CA judges callers by its own roots
//! alone.

pub mod endpoint;
pub mod federation;
mod own;
mod published;
mod service;

pub use own::{DEFAULT_REFRESH_HINT, OwnBundle, of_state_dir};
pub use published::{Published, publish};
pub use service::IdentityService;
