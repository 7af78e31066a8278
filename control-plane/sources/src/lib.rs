//! Where the world comes from: Kubernetes manifests in a directory, parsed and followed.

mod field;
mod manifest;
pub mod parse;
mod spelling;
