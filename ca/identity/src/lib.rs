//! SPIFFE IDs, trust domains and the names of Kubernetes objects, valid by construction.
//!
//! The lowest crate but `proto`: the certificate authority, the agent and the control plane all speak of identities.

mod names;
mod spiffe;
mod workload_key;

pub use names::{Name, is_dns_label, is_dns_subdomain};
pub use spiffe::{IdentityError, SpiffeId, TrustDomain};
pub use workload_key::{WorkloadKey, WorkloadKeyError};
