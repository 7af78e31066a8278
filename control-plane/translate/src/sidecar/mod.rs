//! What a sidecar is served: Envoy's clusters, endpoints, listeners, routes and secrets, and our own type.

pub(crate) mod access;
mod address;
mod cds;
mod cluster_policy;
mod dynamic_hosts;
mod eds;
mod lds;
mod names;
mod rds;
mod route;
pub(crate) mod sds;
mod tls_context;
mod tls_mode;
mod typed;

use crate::{type_builder::TypeBuilder, workload};

/// The types of resources that a sidecar is served, a line each.
pub(crate) const TYPES: &[&dyn TypeBuilder] = &[
    &cds::Clusters,
    &eds::Endpoints,
    &lds::Listeners,
    &rds::Routes,
    &sds::Secrets,
    &workload::WorkloadSettings,
];
