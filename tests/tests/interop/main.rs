//! The server among programs of others, unchanged: a real Kubernetes API says whose tokens are good, and the client of
//! Istio's agent gets and renews certificates.
//!
//! Marked `ignore`, for they need what `cargo xtask tools` builds; `cargo xtask test` runs them where it could.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

mod cluster;
mod control_plane;
mod istio;
mod keys;
mod pod;
mod reviews;

/// How long anything may take that should happen soon.
const PATIENCE: Duration = Duration::from_secs(20);
