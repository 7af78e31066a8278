//! The workload's certificate: requested, checked, held and renewed.
//!
//! ```text
//! schedule (when) → rotation ── client (key, CSR, call) ── svid (check) ──→ watch of the newest Svid
//!                                                                              └→ SDS, files, status
//! ```

pub(crate) mod client;
pub(crate) mod files;
pub(crate) mod key;
pub(crate) mod rotation;
pub(crate) mod schedule;
pub(crate) mod svid;
pub(crate) mod tls;
