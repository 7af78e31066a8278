//! The running certificate authority and its gRPC service: limits, queue of signers, status codes.

pub(crate) mod certificate_authority;
pub mod limits;
pub(crate) mod readiness;
pub mod service;
mod signers;
pub mod status;
