//! Looking at a directory: which manifests there are, and the text of those that may have changed.
//!
//! Symlinks are followed. Names that begin with a dot are skipped: a mounted ConfigMap has its files in a hidden folder
//! that the symlink `..data` points to, and visible symlinks through `..data`, so that all of them change at once.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use eastwest_model::Name;

use crate::{
    SourceError,
    directory::{Look, Reading},
};

/// The largest manifest that is read, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// How long after its last change a file is not yet believed: it is read again at each look, because a further change
/// within one tick of the clock would leave no trace, and if it is empty it counts as half-written.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// Device and inode: what a name stands for, as opposed to what it is called.
pub(crate) type FileId = (u64, u64);

/// What tells that a file is the one read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    id: FileId,
    size: u64,
    modified: SystemTime,
}

/// Looks at one directory again and again.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: PathBuf,
    /// The stamps of the files that need not be read again.
    read: BTreeMap<Name, Stamp>,
    /// The folders of the last look.
    folders: BTreeMap<PathBuf, FileId>,
    /// The last look met a file that is not believed yet, or a folder that cannot be read.
    unsettled: bool,
}

impl Scanner {
    /// A scanner of a directory, or of a single file.
    ///
    /// # Errors
    /// The place does not exist or cannot be read.
    pub(crate) fn open(root: &Path) -> Result<Self, SourceError> {
        let readable = fs::metadata(root).and_then(|metadata| match metadata.is_dir() {
            true => fs::read_dir(root).map(drop),
            false => fs::File::open(root).map(drop),
        });
        readable.map_err(|source| SourceError { path: root.to_owned(), source })?;
        Ok(Self { root: root.to_owned(), read: BTreeMap::new(), folders: BTreeMap::new(), unsettled: false })
    }

    /// The folders of the last look.
    pub(crate) fn folders(&self) -> &BTreeMap<PathBuf, FileId> {
        &self.folders
    }

    /// Whether the next look should come soon: an empty file will no longer be [`FRESH`], a closed folder may open.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Looks at everything; `now` is the wall clock that files are dated by.
    pub(crate) fn look(&mut self, now: SystemTime) -> Look {
        let stamps = std::mem::take(&mut self.read);
        let mut pass = Pass { now, stamps, scanner: self, look: Look::default(), path: Vec::new() };
        pass.scanner.folders.clear();
        pass.scanner.unsettled = false;
        let root = pass.scanner.root.clone();
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => pass.folder(&root, "", &metadata),
            Ok(metadata) => {
                let name = root.file_name().unwrap_or_default().to_string_lossy();
                pass.file(&root, &name, &metadata);
            }
            Err(error) => pass.closed("", &error),
        }
        pass.look
    }
}

/// One look.
struct Pass<'a> {
    now: SystemTime,
    /// The stamps as the look before left them.
    stamps: BTreeMap<Name, Stamp>,
    scanner: &'a mut Scanner,
    look: Look,
    /// The folders around the current one, against symlinks that lead back.
    path: Vec<FileId>,
}

impl Pass<'_> {
    fn folder(&mut self, folder: &Path, name: &str, metadata: &Metadata) {
        let id = (metadata.dev(), metadata.ino());
        if self.path.contains(&id) {
            return;
        }
        self.path.push(id);
        self.scanner.folders.insert(folder.to_owned(), id);
        let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        match entries {
            Ok(entries) => entries.iter().for_each(|entry| self.entry(&entry.path(), name)),
            // Gone since its parent was read.
            Err(_) if !name.is_empty() && fs::symlink_metadata(folder).is_err() => {}
            Err(error) => self.closed(name, &error),
        }
        self.path.pop();
    }

    fn entry(&mut self, path: &Path, parent: &str) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            return;
        }
        let relative = if parent.is_empty() { name.into_owned() } else { format!("{parent}/{name}") };
        let is_manifest = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, &relative, &metadata),
            Ok(metadata) if metadata.is_file() && is_manifest => self.file(path, &relative, &metadata),
            Ok(_) => {}
            // Gone since the folder was read. A symlink that leads nowhere is still there, and an error.
            Err(_) if fs::symlink_metadata(path).is_err() => {}
            Err(error) if is_manifest => self.found(&relative, Reading::Unreadable(error.to_string())),
            Err(_) => {}
        }
    }

    fn file(&mut self, path: &Path, name: &str, metadata: &Metadata) {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let stamp = Stamp { id: (metadata.dev(), metadata.ino()), size: metadata.len(), modified };
        let before = self.stamps.get(name);
        let is_fresh = self.now.duration_since(modified).is_ok_and(|age| age < FRESH);
        if before == Some(&stamp) {
            self.scanner.read.insert(name.into(), stamp);
            return self.found(name, Reading::AsBefore);
        }
        let reading = match read(path, stamp.size) {
            Ok(text) if is_fresh && text.trim().is_empty() => {
                self.scanner.unsettled = true;
                Reading::AsBefore
            }
            Ok(text) => Reading::Text(text),
            Err(reason) => Reading::Unreadable(reason),
        };
        if !is_fresh {
            self.scanner.read.insert(name.into(), stamp);
        }
        self.found(name, reading);
    }

    fn closed(&mut self, folder: &str, error: &io::Error) {
        self.scanner.unsettled = true;
        self.look.closed.insert(folder.into(), error.to_string());
    }

    fn found(&mut self, name: &str, reading: Reading) {
        self.look.files.insert(name.into(), reading);
    }
}

fn read(path: &Path, size: u64) -> Result<String, String> {
    let too_large = || format!("it has more than {} MiB: split it", MAX_SIZE >> 20);
    if size > MAX_SIZE {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let length = file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if length as u64 > MAX_SIZE {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests;
