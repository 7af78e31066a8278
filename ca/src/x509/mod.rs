//! Certificates, requests and keys as bytes: PEM, DER, X.509 and PKCS.

mod certificate;
pub mod csr;
pub mod key;
pub mod name_constraints;
pub mod network;
pub mod pem;
pub mod public_key;
pub(crate) mod signed;
pub mod summary;

pub(crate) use certificate::{Window, has_usage, name, name_of, not_a_ca, parse, serial, uri_names, window};
