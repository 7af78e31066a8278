//! eastwest with unmodified programs of others: a real Kubernetes API reviews tokens, and the client of
//! Istio's agent gets and renews certificates, and istioctl shows the proxies.
//!
//! The tests are marked `ignore`, because they need programs that `cargo xtask tools` builds; `cargo xtask test` runs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

mod cluster;
mod control_plane;
mod istio;
mod istioctl;
mod keys;
mod pod;
mod reviews;

/// The longest wait for an event that is expected soon.
const PATIENCE: Duration = Duration::from_secs(20);
