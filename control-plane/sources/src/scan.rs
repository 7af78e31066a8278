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

use self::tree::{FileId, Stamp, Tree, is_manifest};
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

/// What something that happened at a path has to do with the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// Nothing: drafts and other files beside them.
    Nothing,
    /// A manifest stands there.
    Manifest,
    /// More than one file may be concerned, or a file is gone.
    All,
}

/// Looks at one directory again and again.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: PathBuf,
    /// The stamps of the files that need not be read again.
    read: BTreeMap<Name, Stamp>,
    /// What the last look found.
    last: Tree,
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
        let (read, last) = (BTreeMap::new(), Tree::default());
        Ok(Self { root: root.to_owned(), read, last, unsettled: false })
    }

    /// The folders of the last look.
    pub(crate) fn folders(&self) -> &BTreeMap<PathBuf, FileId> {
        &self.last.folders
    }

    /// What something that happened at this path has to do with the manifests.
    pub(crate) fn concern(&self, path: &Path) -> Concern {
        let folders = &self.last.folders;
        if self.last.linked || path.parent().is_none_or(|parent| !folders.contains_key(parent)) {
            return Concern::All;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() && is_manifest(path) => Concern::Manifest,
            Ok(metadata) if metadata.is_file() => Concern::Nothing,
            Err(_) if !folders.contains_key(path) && !is_manifest(path) => Concern::Nothing,
            _ => Concern::All,
        }
    }

    /// The text of one manifest, by its name; `None` if it cannot be read, says nothing, or changes meanwhile.
    pub(crate) fn look_at(&self, path: &Path) -> Option<(Name, String)> {
        let name = path.strip_prefix(&self.root).ok()?.to_string_lossy();
        let stamp = Stamp::of(&fs::metadata(path).ok()?);
        let text = read(path, stamp.size).ok()?;
        let is_same = Stamp::of(&fs::metadata(path).ok()?) == stamp;
        (is_same && !is_blank(&text)).then(|| (name.into(), text))
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
            // Where nothing was read, and nothing differs from the last look, there is nothing of two moments.
            let is_settled = tree == self.last && files.values().all(|one| *one == Reading::AsBefore);
            let after = if is_settled { None } else { Some(Tree::walk(&self.root)) };
            let after = after.filter(|after| *after != tree);
            self.unsettled = after.is_some() || !tree.closed.is_empty();
            if let Some(after) = after
                && tries < TRIES
            {
                (tree, tries) = (after, tries + 1);
                continue;
            }
            self.remember(&tree, &files, now);
            let (closed, left_out) = (tree.closed.clone(), tree.left_out.clone());
            self.last = tree;
            return Look { files, closed, left_out };
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
