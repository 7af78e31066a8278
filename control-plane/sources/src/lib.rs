//! Where the world comes from: Kubernetes manifests in a directory, parsed and followed.
//!
//! ```text
//! watch (thread, events) → scan (bytes of changed files) → parse (objects, diagnostics) → directory (changes) → Batch
//! ```
//!
//! [`parse`] and `directory` are pure; `scan` and `watch` touch the disk. Whatever is wrong with a file is a
//! [`Diagnostic`], never a failure: its last good content stays in force, and all other files go on.

mod directory;
mod field;
mod manifest;
pub mod parse;
mod scan;
mod spelling;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use eastwest_model::{Change, Diagnostic, MeshConfig};
use thiserror::Error;

pub use crate::watch::follow;
use crate::{directory::Directory, scan::Scanner};

/// The place that was named cannot be read at all.
#[derive(Debug, Error)]
#[error("cannot read {}: {source}; name a directory of Kubernetes manifests", path.display())]
pub struct SourceError {
    /// The place.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// A step of the followed world, or the whole of it at first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What is new, different or gone.
    pub changes: Vec<Change>,
    /// Everything that is wrong or surprising now; it replaces what the batch before said.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a directory of manifests, or a single one, once; the changes build its world from nothing.
///
/// `defaults` are the mesh's settings where its ConfigMap is silent.
///
/// # Errors
/// Only if `path` itself cannot be read. Mistakes inside are diagnostics.
pub fn load(path: &Path, defaults: &MeshConfig) -> Result<Batch, SourceError> {
    let mut scanner = Scanner::open(path)?;
    let mut directory = Directory::new(defaults.clone());
    let changes = directory.update(scanner.look(SystemTime::now()));
    Ok(Batch { changes, diagnostics: directory.diagnostics().to_vec() })
}
