//! The agent of a workload: key, certificate, SDS, Envoy bootstrap and supervision.
//!
//! ```text
//!                 control plane (CA)
//!                        │ CSR, chain             trust_bundles, of other domains ──→ workload_api
//! certificate ── key, check, renewal ──┬→ sds ── unix socket ──→ Envoy ──→ control plane (ADS)
//!                                      ├→ workload_api ── the same socket ──→ SPIFFE client libraries
//!                                      ├→ certificate::files  (--write-certs)
//!                                      └→ status port
//! envoy::bootstrap ── envoy.yaml      supervisor ── starts the command once the certificate is held
//! ```
//! The private key is generated here and is sent only to the workload, over a socket of mode 0600. While the control
//! plane is unreachable the last certificate is served. After it has expired, peers refuse it, and the agent requests a
//! new one at least every two seconds.

// They panic when nobody reads: `eastwest_io::stdio` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod agent;
mod app_health;
mod authority;
mod certificate;
mod config;
mod envoy;
mod file_secrets;
pub mod redirect;
mod request;
mod sds;
mod secret;
mod shutdown;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod trust_bundles;
mod workload_api;

pub use agent::{AgentError, run};
pub use certificate::client::TokenSource;
pub use config::{AgentConfig, ConfigError};
pub use request::{
    CertificateRequest, CertificateRequestError, IssuanceError, IssuedCertificate, request_certificate,
};
pub use sds::SocketError;
pub use shutdown::Shutdown;
pub use supervisor::SpawnError;
