//! Following a directory: one thread that looks, waits for the file system to say that something happened, and looks
//! again. Folders are watched, not files, for a file that is replaced takes its watch with it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use eastwest_manifest::merge::{Batch, SourceId};
use eastwest_model::MeshConfig;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc::Sender;

use crate::{
    SourceError,
    directory::Directory,
    scan::{FRESH, FileId, Scanner},
};

/// Silence after an event before the directory is looked at: writers need a moment to finish.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that events without silence put a look off.
const PATIENCE: Duration = Duration::from_millis(500);
/// The time between looks without any event, for file systems that send none. It is [`FRESH`] where folders cannot be
/// watched.
const RESCAN: Duration = Duration::from_secs(5);

/// Follows a directory of manifests under the name `source`. The first batch is the whole of it, even if that is nothing;
/// later ones come when something is different. If the directory vanishes, what it said stays in force and the
/// diagnostics say so.
///
/// The thread that follows ends when the receiver of `batches` is dropped. A slow receiver gets fewer, larger batches.
///
/// # Errors
/// Only if `path` cannot be read at the start.
pub fn follow(
    source: SourceId,
    path: &Path,
    defaults: MeshConfig,
    batches: Sender<Batch>,
) -> Result<(), SourceError> {
    let follower = Follower::open(source, path, defaults)?;
    follower.start(batches).map_err(|reason| SourceError { path: path.to_owned(), reason })
}

struct Follower {
    source: SourceId,
    /// The time between looks without any event.
    rescan: Duration,
    scanner: Scanner,
    directory: Directory,
    watches: Watches,
}

impl Follower {
    fn open(source: SourceId, path: &Path, defaults: MeshConfig) -> Result<Self, SourceError> {
        let scanner = Scanner::open(path)?;
        let directory = Directory::new(defaults);
        Ok(Self { source, rescan: RESCAN, scanner, directory, watches: Watches::new() })
    }

    fn start(self, batches: Sender<Batch>) -> io::Result<()> {
        thread::Builder::new().name("manifests".to_owned()).spawn(move || self.run(&batches)).map(drop)
    }

    /// Until the receiver is dropped.
    fn run(mut self, batches: &Sender<Batch>) {
        let mut is_first = true;
        while !batches.is_closed() {
            let updates = self.directory.update(self.scanner.look(SystemTime::now()));
            if is_first || !updates.is_empty() {
                is_first = false;
                if batches.blocking_send(Batch { source: self.source.clone(), updates }).is_err() {
                    return;
                }
            }
            // A folder may have filled before it was watched: look once more.
            if !self.watches.cover(self.scanner.folders()) {
                let soon = self.scanner.is_unsettled() || !self.watches.complete;
                self.watches.wait(if soon { FRESH } else { self.rescan });
            }
        }
    }
}

/// The watched folders and the events from them.
struct Watches {
    /// `None` where the system has no such service.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, FileId>,
    /// Every folder is watched.
    complete: bool,
    events: mpsc::Receiver<()>,
}

impl Watches {
    fn new() -> Self {
        let (sender, events) = mpsc::sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, changes_something) {
                // Full: the wake-up is already due. Gone: the thread ends.
                let _ = sender.try_send(());
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "no file events: looking every second"));
        Self { watcher: watcher.ok(), folders: BTreeMap::new(), complete: false, events }
    }

    /// Watches exactly these folders; whether one was added.
    fn cover(&mut self, folders: &BTreeMap<PathBuf, FileId>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        self.folders.retain(|path, id| {
            let stays = folders.get(path) == Some(id);
            if !stays {
                // Most often the folder is gone, and its watch with it.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let (known, was_complete) = (self.folders.len(), self.complete);
        self.complete = true;
        for (path, id) in folders {
            if self.folders.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(path.clone(), *id)),
                Err(error) => {
                    if was_complete {
                        tracing::warn!(folder = %path.display(), %error, "no file events: looking every second");
                    }
                    self.complete = false;
                }
            }
        }
        self.folders.len() > known
    }

    /// Waits for an event and the silence after it, at most for `limit`.
    fn wait(&self, limit: Duration) {
        match self.events.recv_timeout(limit) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return thread::sleep(limit),
        }
        let first = Instant::now();
        while first.elapsed() < PATIENCE && self.events.recv_timeout(QUIET).is_ok() {}
    }
}

/// Reading is no change; our own looks would otherwise wake us for ever.
fn changes_something(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests;
