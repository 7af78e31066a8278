//! A source of objects: Kubernetes manifests in a directory, read and followed.
//!
//! ```text
//! watch (thread, events) → scan (text of changed files) → directory (what is different, parsed) → Batch → merge
//! ```
//!
//! `directory` is pure; `scan` and `watch` touch the disk. What the objects of the files come to is decided by
//! [`eastwest_manifest::merge`], which other sources use as well. Whatever is wrong with a file is a
//! [`Diagnostic`], never a failure: its last good content stays in force, and all other files go on.

mod directory;
mod scan;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use eastwest_manifest::merge::{Batch, Merge, SourceId};
use eastwest_model::{Change, Diagnostic, MeshConfig, Origin, Severity};
use thiserror::Error;

pub use crate::watch::follow;
use crate::{directory::Directory, scan::Scanner};

/// The place that was named cannot be read at all.
#[derive(Debug, Error)]
#[error("cannot read {}: {reason}; name a file or directory of manifests", path.display())]
pub struct SourceError {
    /// The place.
    path: PathBuf,
    /// What the system said.
    reason: io::Error,
}

/// What was read, as the steps that lead to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What is new, different or gone.
    pub changes: Vec<Change>,
    /// Everything that is wrong or surprising, errors first.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a directory of manifests, or a single one, once; the changes build its world from nothing.
///
/// `defaults` are the mesh's settings where its ConfigMap is silent.
///
/// # Errors
/// Only if `path` itself cannot be read. Mistakes inside are diagnostics.
pub fn load(path: &Path, defaults: &MeshConfig) -> Result<Loaded, SourceError> {
    let mut scanner = Scanner::open(path)?;
    let mut loaded = Loading::new(defaults).step(&mut scanner, SystemTime::now());
    if loaded == Loaded::default() {
        loaded.diagnostics.push(nothing_read(path));
    }
    Ok(loaded)
}

/// The warning that there is nothing in a directory.
fn nothing_read(path: &Path) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        object: path.display().to_string(),
        origin: Origin::default(),
        field: String::new(),
        message: "holds nothing that is read here: manifests are files *.yaml, *.yml and *.json".to_owned(),
        beaten_by: None,
        effect: None,
    }
}

/// Reads a directory, and then another one as if the first had become it: what a control plane that follows it would
/// make of the change. The first step builds the world of `before`, the second one leads on to that of `after`; what is
/// refused in `after` keeps its version of `before`.
///
/// # Errors
/// As [`load`], for either of them.
pub fn load_both(
    before: &Path,
    after: &Path,
    defaults: &MeshConfig,
) -> Result<(Loaded, Loaded), SourceError> {
    let (mut scanner, mut next) = (Scanner::open(before)?, Scanner::open(after)?);
    let mut loading = Loading::new(defaults);
    // A command reads complete files: no file counts as being written.
    let first = loading.step(&mut scanner, SystemTime::UNIX_EPOCH);
    let mut second = loading.step(&mut next, SystemTime::UNIX_EPOCH);
    let is_gone = |change: &Change| matches!(change, Change::Delete(_));
    if second.diagnostics.is_empty()
        && second.changes.iter().all(is_gone)
        && second.changes.len() == first.changes.len()
    {
        second.diagnostics.push(nothing_read(after));
    }
    Ok((first, second))
}

/// A directory that is the only source.
struct Loading {
    directory: Directory,
    merge: Merge,
}

impl Loading {
    fn new(defaults: &MeshConfig) -> Self {
        Self { directory: Directory::new(defaults.clone()), merge: Merge::default() }
    }

    fn step(&mut self, scanner: &mut Scanner, now: SystemTime) -> Loaded {
        let updates = self.directory.update(scanner.look(now));
        let effect = self.merge.apply(Batch { source: SourceId::new("directory"), updates });
        Loaded { changes: effect.changes, diagnostics: self.merge.diagnostics().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use eastwest_model::TrustDomain;

    use super::*;

    #[test]
    fn a_directory_that_would_lose_everything_is_warned_of() {
        let (full, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        std::fs::write(full.path().join("a.yaml"), namespace).unwrap();
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let findings = |before: &tempfile::TempDir, after: &tempfile::TempDir| {
            load_both(before.path(), after.path(), &defaults).unwrap().1.diagnostics.len()
        };
        assert_eq!([findings(&full, &empty), findings(&full, &full), findings(&empty, &full)], [1, 0, 0]);
    }

    /// The shape that `eastwest check -o json` prints.
    #[test]
    fn a_load_tells_every_mistake_by_object_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: shop}\n";
        std::fs::create_dir(folder.path().join("shop")).unwrap();
        std::fs::write(
            folder.path().join("shop/a.yaml"),
            format!("{policy}spec: {{mtls: {{mode: strict}}}}\n"),
        )
        .unwrap();
        std::fs::write(folder.path().join("broken.json"), "{\n\"a\": }").unwrap();
        std::fs::write(
            folder.path().join("good.yaml"),
            "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}",
        )
        .unwrap();
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let loaded = load(folder.path(), &defaults).unwrap();
        assert_eq!(loaded.changes.len(), 1);
        let golden = serde_json::json!([{
            "severity": "error",
            "object": "PeerAuthentication/shop/a",
            "file": "shop/a.yaml",
            "line": 1,
            "field": "spec.mtls.mode",
            "message": "\"strict\" is not among the modes UNSET, DISABLE, PERMISSIVE, STRICT (did you mean \"STRICT\"?)",
        }, {
            "severity": "error",
            "object": "broken.json",
            "file": "broken.json",
            "line": 2,
            "field": "",
            "message": "this is not valid JSON: expected value",
        }]);
        assert_eq!(serde_json::to_value(&loaded.diagnostics).unwrap(), golden);
        assert!(load(&folder.path().join("none"), &defaults).is_err());
    }

    #[test]
    fn an_empty_directory_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let [found] = &load(folder.path(), &defaults).unwrap().diagnostics[..] else { panic!() };
        assert!(found.severity == Severity::Warning && found.message.contains("*.yaml"), "{found:?}");
    }
}
