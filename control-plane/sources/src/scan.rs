//! Looking at a directory: which manifests there are, and the text of those that may have changed.

mod tree;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use eastwest_manifest::is_blank;
use eastwest_model::Name;

use self::tree::{FileId, Stamp, Tree};
use crate::{
    SourceError,
    directory::{Look, Reading},
};

/// The largest manifest that is read, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// How long after its last change a file is not yet believed: it is read again at each look, because a further change
/// within one tick of the clock would leave no trace, and if it says nothing it counts as half-written.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// How often a look is repeated because the directory changed under it.
const TRIES: u32 = 5;

/// Looks at one directory again and again.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: PathBuf,
    /// The stamps of the files that need not be read again.
    read: BTreeMap<Name, Stamp>,
    /// The folders of the last look.
    folders: BTreeMap<PathBuf, FileId>,
    /// The last look met what may soon be otherwise.
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
        readable.map_err(|reason| SourceError { path: root.to_owned(), reason })?;
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
    ///
    /// The files are of one moment: if the directory changed meanwhile, the look is repeated. Otherwise a folder that is
    /// swapped or moved away would show some files of before and some of after.
    pub(crate) fn look(&mut self, now: SystemTime) -> Look {
        let (mut tree, mut tries) = (Tree::walk(&self.root), 1);
        loop {
            let files = tree.files.iter().map(|(name, file)| (name.clone(), self.read(name, file, now)));
            let files: BTreeMap<_, _> = files.collect();
            let after = Tree::walk(&self.root);
            if after != tree && tries < TRIES {
                (tree, tries) = (after, tries + 1);
                continue;
            }
            self.unsettled = after != tree || !tree.closed.is_empty();
            self.remember(&tree, &files, now);
            return Look { files, closed: tree.closed, left_out: tree.left_out };
        }
    }

    fn read(&self, name: &Name, file: &Result<(PathBuf, Stamp), String>, now: SystemTime) -> Reading {
        let (path, stamp) = match file {
            Ok(file) => file,
            Err(reason) => return Reading::Unreadable(reason.clone()),
        };
        if self.read.get(name) == Some(stamp) {
            return Reading::AsBefore;
        }
        match read(path, stamp.size) {
            Ok(text) if is_fresh(stamp, now) && is_blank(&text) => Reading::AsBefore,
            Ok(text) => Reading::Text(text),
            Err(reason) => Reading::Unreadable(reason),
        }
    }

    fn remember(&mut self, tree: &Tree, files: &BTreeMap<Name, Reading>, now: SystemTime) {
        let stamps = tree.files.iter().filter_map(|(name, file)| Some((name.clone(), file.as_ref().ok()?.1)));
        let (fresh, settled): (BTreeMap<_, _>, _) = stamps.partition(|(_, stamp)| is_fresh(stamp, now));
        // A fresh file is always read, so this one was not believed.
        self.unsettled |= fresh.keys().any(|name| files.get(name) == Some(&Reading::AsBefore));
        self.read = settled;
        self.folders.clone_from(&tree.folders);
    }
}

/// The clock of the file system is coarser than ours and may also be a little ahead.
fn is_fresh(stamp: &Stamp, now: SystemTime) -> bool {
    now.duration_since(stamp.modified).unwrap_or_else(|ahead| ahead.duration()) < FRESH
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
