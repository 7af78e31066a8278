//! Following a real Kubernetes API: what is known of it, how fresh that is, and what faults do to both.
//!
//! Marked `ignore`, for they need what `cargo xtask tools` builds; `cargo xtask test` runs them where it could. With
//! `EASTWEST_TEST_KUBECONFIG` they run against that cluster, which gets and loses namespaces and Istio's definitions;
//! tests that stop or restart its programs say that they are left out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

mod ca_secrets;
mod cases;
mod churn;
mod cluster;
mod comparing;
mod definitions;
mod early_proxies;
mod election;
mod faults;
mod follower;
mod history;
mod http_relay;
mod istio;
mod job_tokens;
mod kubectl;
mod least_privilege;
mod pods;
mod proxies;
mod refused_at_start;
mod replica;
mod rights;
mod roots;
mod server;
mod server_faults;
mod serving;
mod statuses;
mod watching;

/// How long anything may take that should happen soon.
const PATIENCE: Duration = Duration::from_secs(30);
