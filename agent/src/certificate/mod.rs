//! The workload's certificate: asked for, checked, held and renewed.
//!
//! ```text
//! schedule (when) → rotation ── client (key, CSR, call) ── svid (check) ──→ watch of the newest Svid
//!                                                                              └→ SDS, written, status
//! ```

pub(crate) mod client;
pub(crate) mod key;
mod provider;
pub(crate) mod rotation;
pub(crate) mod schedule;
pub(crate) mod svid;
pub(crate) mod tls;
pub(crate) mod written;
