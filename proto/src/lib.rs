//! The protocol messages of eastwest: the part of the xDS v3 API that it speaks, the certificate
//! service `istio.v1.auth`, the SPIFFE Workload API (which has no package and is [`spiffe`] here), and
//! its own `eastwest.v1`.
//!
//! `cargo xtask proto` generates the code from the messages named in `messages.txt` and it is
//! checked in. Maps are `BTreeMap`s, so equal messages have equal bytes: hash and compare
//! encodings freely. Module paths are protobuf packages, for instance
//! [`envoy::config::cluster::v3::Cluster`].
//!
//! - [`Any`] packs and unpacks typed messages; its payload is shared, not copied.
//! - [`type_url`] names the resource types; every message knows its own by [`Name`].
//! - [`json`] turns messages into JSON and back.

#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    reason = "generated code, whose documentation is that of the protocols"
)]
#[path = "gen/mod.rs"]
#[rustfmt::skip]
mod generated;

mod any;
pub mod json;
mod redact;
pub mod type_url;

pub use any::{Any, UnpackError};
pub use generated::{eastwest, envoy, google, istio, spiffe, xds};
pub use prost::{Message, Name};

/// The encoded `FileDescriptorSet` of everything in this crate, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
