//! What stands where in a directory, without any content.
//!
//! Symlinks are followed, and each folder is walked through once, by device and inode, however many paths lead to it; file
//! systems of the kernel are none of ours, and a tree has bounds. Names that begin with a dot are skipped: a mounted ConfigMap has its files in a hidden folder
//! that the symlink `..data` points to, and visible symlinks through `..data`, so that all of them change at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use eastwest_io::files;
use eastwest_model::Name;

/// Device and inode: what a name stands for, as opposed to what it is called.
pub(super) type FileId = (u64, u64);

/// The most folders that are walked through.
const FOLDERS: usize = 10_000;
/// The most folders in each other.
const DEPTH: usize = 64;

/// What tells that a file is the one read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    id: FileId,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A directory at one moment, by path relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// Manifests; an error is a symlink that leads nowhere.
    pub(super) files: BTreeMap<Name, Result<(PathBuf, Stamp), String>>,
    /// Folders, the root among them.
    pub(super) folders: BTreeMap<PathBuf, FileId>,
    /// Folders that cannot be read and why; the root is the empty path.
    pub(super) closed: BTreeMap<Name, String>,
    /// Folders that are left out and why.
    pub(super) left_out: BTreeMap<Name, String>,
    /// All folders that were entered.
    entered: BTreeSet<FileId>,
    /// There are symlinks below the root, or it is no folder: what happens in one folder may concern another.
    pub(super) linked: bool,
}

impl Tree {
    /// Walks through a directory, or to a single file.
    pub(super) fn walk(root: &Path) -> Self {
        let mut tree = Self::default();
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => tree.folder(root, "", &metadata, 0),
            Ok(metadata) => {
                tree.linked = true;
                tree.file(root, root.file_name().unwrap_or_default().to_string_lossy().into(), &metadata)
            }
            Err(error) => tree.close("", &error),
        }
        tree
    }

    /// `depth`: how many folders are around this one.
    fn folder(&mut self, folder: &Path, name: &str, metadata: &Metadata, depth: usize) {
        let id = id(metadata);
        if let Some(reason) = self.is_left_out(folder, id) {
            self.left_out.insert(name.into(), reason.to_owned());
            return;
        }
        // What is in it stays as it was.
        if depth > DEPTH || self.entered.len() >= FOLDERS {
            let bounds = format!("there are more than {DEPTH} folders around it, or {FOLDERS} beside it");
            self.closed.insert(name.into(), bounds);
            return;
        }
        self.entered.insert(id);
        self.folders.insert(folder.to_owned(), id);
        match fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()) {
            Ok(entries) => {
                self.linked |=
                    entries.iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
                // The same path to a folder counts each time.
                let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
                paths.sort();
                paths.iter().for_each(|path| self.entry(path, name, depth));
            }
            // Gone since its parent was read.
            Err(_) if !name.is_empty() && fs::symlink_metadata(folder).is_err() => {}
            Err(error) => self.close(name, &error),
        }
    }

    fn is_left_out(&self, folder: &Path, id: FileId) -> Option<&'static str> {
        if self.entered.contains(&id) {
            return Some("it is a folder that was read by another path already: its manifests count once");
        }
        files::is_of_the_kernel(folder).then_some("it is a file system of the kernel and holds no manifests")
    }

    fn entry(&mut self, path: &Path, parent: &str, depth: usize) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            return;
        }
        let name = if parent.is_empty() { name.into_owned() } else { format!("{parent}/{name}") };
        let is_manifest = is_manifest(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, &name, &metadata, depth + 1),
            Ok(metadata) if metadata.is_file() && is_manifest => self.file(path, name.into(), &metadata),
            // A symlink that leads nowhere; any other file is gone since the folder was read.
            Err(error) if is_manifest && fs::symlink_metadata(path).is_ok() => {
                self.files.insert(name.into(), Err(error.to_string()));
            }
            _ => {}
        }
    }

    fn file(&mut self, path: &Path, name: Name, metadata: &Metadata) {
        self.files.insert(name, Ok((path.to_owned(), Stamp::of(metadata))));
    }

    fn close(&mut self, folder: &str, error: &io::Error) {
        self.closed.insert(folder.into(), error.to_string());
    }
}

impl Stamp {
    /// The stamp of a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self { id: id(metadata), size: metadata.len(), modified }
    }
}

/// Whether a file of this name is read.
pub(super) fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && ["yaml", "yml", "json"].map(OsStr::new).map(Some).contains(&path.extension())
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}
