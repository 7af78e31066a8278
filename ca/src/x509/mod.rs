//! Certificates, requests and keys as bytes: PEM, DER, X.509 and PKCS.

mod certificate;
pub mod csr;
pub mod key;
pub mod pem;
pub mod public_key;
pub mod summary;

pub(crate) use certificate::{Window, has_usage, not_a_ca, parse, serial, uri_names, window};
