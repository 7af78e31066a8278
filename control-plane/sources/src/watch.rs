//! Following a directory: one thread that looks, waits for the file system to say that something happened, and looks
//! again. Folders are watched, not files, for a file that is replaced takes its watch with it.
//!
//! A file that was replaced, or that its writer closed, is taken in at once if it states all that it stated before.
//! Everything else waits until the directory is quiet, and then all of it is looked at: an object that moves to another
//! file is not gone for a moment.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use eastwest_io::{FolderEvent, FolderWatch, defects, watch::Debounce};
use eastwest_manifest::merge::{Batch, SourceId, Update};
use eastwest_model::MeshConfig;
use tokio::sync::mpsc::Sender;

use crate::{
    SourceError,
    directory::Directory,
    scan::{Concern, FRESH, Scanner},
};

/// How long the directory must be quiet before it is looked at, and the longest that events put a look off.
const DEBOUNCE: Debounce = Debounce { quiet: Duration::from_millis(50), limit: Duration::from_millis(500) };
/// The time between looks without any event. It is [`FRESH`] where folders cannot be watched.
const RESCAN: Duration = Duration::from_secs(30);
/// The same on file systems that other machines write to, of which no event tells.
const RESCAN_SHARED: Duration = Duration::from_secs(5);

/// Follows a directory of manifests under the name `source`. The first batch is the whole of it, even if that is nothing;
/// later ones come when something is different. If the directory vanishes, what it said stays in force and the
/// diagnostics say so.
///
/// The thread that follows ends when the receiver of `batches` is dropped. A slow receiver gets fewer, larger batches.
///
/// # Errors
/// Only if `path` cannot be read at the start.
pub fn follow<T: From<Batch> + Send + 'static>(
    source: SourceId,
    path: &Path,
    defaults: MeshConfig,
    batches: Sender<T>,
) -> Result<(), SourceError> {
    let follower = Follower::open(source, path, defaults)?;
    follower.start(batches).map_err(|reason| SourceError { path: path.to_owned(), reason })
}

struct Follower {
    source: SourceId,
    /// The time between looks without any event.
    rescan: Duration,
    debounce: Debounce,
    scanner: Scanner,
    directory: Directory,
    watch: FolderWatch,
}

impl Follower {
    fn open(source: SourceId, path: &Path, defaults: MeshConfig) -> Result<Self, SourceError> {
        let scanner = Scanner::open(path)?;
        let directory = Directory::new(defaults);
        let rescan = if is_shared(path) { RESCAN_SHARED } else { RESCAN };
        let (debounce, watch) = (DEBOUNCE, FolderWatch::new(DEBOUNCE));
        Ok(Self { source, rescan, debounce, scanner, directory, watch })
    }

    fn start<T: From<Batch> + Send + 'static>(self, batches: Sender<T>) -> io::Result<()> {
        thread::Builder::new().name("manifests".to_owned()).spawn(move || {
            defects::vital("the thread that follows the manifests", || self.run(&batches));
        })?;
        Ok(())
    }

    /// Until the receiver is dropped.
    fn run<T: From<Batch>>(mut self, batches: &Sender<T>) {
        let mut is_first = true;
        while !batches.is_closed() {
            if !is_first {
                defects::fault("manifests");
            }
            let updates = self.directory.update(self.scanner.look(SystemTime::now()));
            if (is_first || !updates.is_empty()) && !self.send(batches, updates) {
                return;
            }
            is_first = false;
            // A folder may have filled before it was watched: look once more.
            if !self.watch.set(self.scanner.folders()) && !self.follow_files(batches) {
                return;
            }
        }
    }

    /// Returns whether the receiver is there.
    fn send<T: From<Batch>>(&self, batches: &Sender<T>, updates: Vec<Update>) -> bool {
        batches.blocking_send(Batch { source: self.source.clone(), updates }.into()).is_ok()
    }

    /// Takes in single files until everything has to be looked at. Returns whether the receiver is there.
    fn follow_files<T: From<Batch>>(&mut self, batches: &Sender<T>) -> bool {
        let soon = self.scanner.is_unsettled() || !self.watch.is_complete();
        let mut pending = Pending::new(if soon { FRESH } else { self.rescan }, self.debounce);
        while let Some(left) = pending.left(Instant::now()) {
            let events = self.watch.next(left);
            if events.is_empty() {
                continue;
            }
            let whole = pending.note(events, &self.scanner, Instant::now());
            let mut updates = Vec::new();
            for path in whole {
                match self.take(&path) {
                    Some(update) => updates.extend(update),
                    None => pending.doubt(Instant::now()),
                }
            }
            if !updates.is_empty() && !self.send(batches, updates) {
                return false;
            }
        }
        true
    }

    /// What a whole file says differently, if anything; `None` if it has to wait for the others.
    fn take(&mut self, path: &Path) -> Option<Option<Update>> {
        let (name, text) = self.scanner.look_at(path)?;
        self.directory.take(&name, &text).ok()
    }
}

/// What happened since everything was looked at.
struct Pending {
    /// The next look without any event.
    due: Instant,
    debounce: Debounce,
    /// Manifests that are being written.
    open: BTreeSet<PathBuf>,
    /// Something happened for which everything has to be looked at.
    doubtful: bool,
    /// The first and the last event that is waited for.
    waits: Option<(Instant, Instant)>,
}

impl Pending {
    fn new(rescan: Duration, debounce: Debounce) -> Self {
        let due = Instant::now() + rescan;
        Self { due, debounce, open: BTreeSet::new(), doubtful: false, waits: None }
    }

    /// The time until everything is looked at; `None` if that is now.
    fn left(&self, now: Instant) -> Option<Duration> {
        let Debounce { quiet, limit } = self.debounce;
        let quiet = self.waits.map(|(first, last)| (last + quiet).min(first + limit));
        let due = quiet.map_or(self.due, |quiet| quiet.min(self.due));
        Some(due.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Everything has to be looked at when it is quiet.
    fn doubt(&mut self, now: Instant) {
        self.doubtful = true;
        self.waits = Some((self.waits.map_or(now, |(first, _)| first), now));
    }

    /// Notes events, and returns the manifests that are whole and wait for nothing.
    fn note(&mut self, events: Vec<FolderEvent>, scanner: &Scanner, now: Instant) -> BTreeSet<PathBuf> {
        let mut whole = BTreeSet::new();
        for event in events {
            let (path, is_whole) = match event {
                FolderEvent::Whole(path) => (path, true),
                FolderEvent::Path(path) => (path, false),
                FolderEvent::Unknown => {
                    self.doubtful = true;
                    continue;
                }
            };
            match scanner.concern(&path) {
                Concern::Nothing => {}
                Concern::All => self.doubtful = true,
                Concern::Manifest if is_whole => {
                    self.open.remove(&path);
                    whole.insert(path);
                }
                Concern::Manifest => drop(self.open.insert(path)),
            }
        }
        self.waits = match self.waits {
            _ if self.open.is_empty() && !self.doubtful => None,
            waits => Some((waits.map_or(now, |(first, _)| first), now)),
        };
        // What is whole by now is looked at with the others.
        if self.doubtful { BTreeSet::new() } else { whole }
    }
}

/// Whether other machines may write to the file system.
fn is_shared(path: &Path) -> bool {
    use nix::sys::statfs::{
        AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs,
    };
    /// Of linux/magic.h.
    const V9FS_MAGIC: FsType = FsType(0x0102_1997);
    let shared =
        [AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, V9FS_MAGIC];
    // What cannot be asked counts as shared: it is only looked at more often.
    statfs(path).map_or(true, |found| shared.contains(&found.filesystem_type()))
}

#[cfg(test)]
mod tests;
