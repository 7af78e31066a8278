//! The companion of a workload: key, certificate, SDS, Envoy bootstrap and supervision.
//!
//! ```text
//!                 control plane (CA)
//!                        │ CSR, chain             trust ── bundles of other domains ──→ workload_api
//! certificate ── key, check, renewal ──┬→ sds ── unix socket ──→ Envoy ──→ control plane (ADS)
//!                                      ├→ workload_api ── the same socket ──→ SPIFFE client libraries
//!                                      ├→ certificate::written  (--write-certs)
//!                                      └→ status port
//! envoy::bootstrap ── envoy.yaml      supervisor ── starts the command once the certificate is held
//! ```
//! The private key is made here and leaves only towards the workload, over a socket of mode 0600. While the control
//! plane is away the last good certificate is served; once it has expired its peers refuse it, and the agent
//! asks for a new one every two seconds at least.

mod agent;
mod authority;
mod certificate;
mod config;
mod envoy;
mod file_secrets;
mod files;
mod order;
mod sds;
mod secret;
mod shutdown;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod trust;
mod workload_api;

pub use agent::{AgentError, run};
pub use certificate::client::TokenSource;
pub use config::{AgentConfig, ConfigError};
pub use order::{Order, OrderError, Ordered, RefusedError, order};
pub use sds::SocketError;
pub use shutdown::Shutdown;
pub use supervisor::SpawnError;
