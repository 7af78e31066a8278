//! Kubernetes manifests: YAML or JSON in, objects of the model and diagnostics out.
//!
//! ```text
//! text → document (values with their lines) → parse (objects, diagnostics) ─┐
//!                                                          of other sources ─┴→ merge → changes, diagnostics
//! ```
//!
//! Nothing here reads a file, a clock or the network. Whatever is wrong with a manifest is a
//! [`Diagnostic`](eastwest_model::Diagnostic), never a failure.

mod document;
mod field;
pub mod merge;
pub mod parse;
mod spelling;

pub use crate::document::is_blank;
