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

/// The documents of a file as they are, lists taken apart and empty ones left out. `file` is its name: JSON if it ends so.
///
/// # Errors
/// For each document that is neither YAML nor JSON, or has a key twice: the line, from 1, and what is wrong.
pub fn documents(text: &str, file: &str) -> Vec<Result<serde_json::Value, (u32, String)>> {
    let read = document::read(text, file).into_iter();
    read.map(|result| {
        let document = result.map_err(|error| (error.line, error.message))?;
        match document.duplicates.first() {
            Some(twice) => Err((document.line, format!("the key {:?} stands twice", twice.key()))),
            None => Ok(document.value),
        }
    })
    .collect()
}
