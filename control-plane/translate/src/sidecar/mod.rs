//! What a sidecar is sent: Envoy's listeners, routes, clusters, endpoints and secrets.

pub(crate) mod cds;
mod dynamic_hosts;
pub(crate) mod eds;
pub(crate) mod lds;
pub mod names;
pub(crate) mod rds;
pub(crate) mod sds;
mod tls_context;
mod tls_mode;
