//! Following a directory: one thread that looks, waits for the file system to say that something happened, and looks
//! again. Folders are watched, not files, for a file that is replaced takes its watch with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use eastwest_model::{Diagnostic, MeshConfig, Severity};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    Batch, SourceError,
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

/// Follows a directory of manifests. The first batch is the whole of it, even if that is nothing; later ones come when
/// something changed. If the directory vanishes, what it said stays in force and the diagnostics say so.
///
/// Dropping the receiver ends the thread that follows. A slow receiver gets fewer, larger batches.
///
/// # Errors
/// Only if `path` cannot be read at the start.
pub fn follow(path: &Path, defaults: MeshConfig) -> Result<Receiver<Batch>, SourceError> {
    let follower = Follower::open(path, defaults)?;
    follower.start().map_err(|reason| SourceError { path: path.to_owned(), reason })
}

struct Follower {
    /// The time between looks without any event.
    rescan: Duration,
    scanner: Scanner,
    directory: Directory,
    watches: Watches,
}

impl Follower {
    fn open(path: &Path, defaults: MeshConfig) -> Result<Self, SourceError> {
        let scanner = Scanner::open(path)?;
        Ok(Self { rescan: RESCAN, scanner, directory: Directory::new(defaults), watches: Watches::new() })
    }

    fn start(self) -> io::Result<Receiver<Batch>> {
        let (sender, receiver) = channel(1);
        thread::Builder::new().name("manifests".to_owned()).spawn(move || self.run(&sender))?;
        Ok(receiver)
    }

    /// Until the receiver is dropped.
    fn run(mut self, sender: &Sender<Batch>) {
        let mut told: Option<Vec<Diagnostic>> = None;
        while !sender.is_closed() {
            let changes = self.directory.update(self.scanner.look(SystemTime::now()));
            let diagnostics = self.directory.diagnostics();
            if !changes.is_empty() || told.as_deref() != Some(diagnostics) {
                log(told.as_deref().unwrap_or_default(), diagnostics);
                told = Some(diagnostics.to_vec());
                if sender.blocking_send(Batch { changes, diagnostics: diagnostics.to_vec() }).is_err() {
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

/// Tells the log what is newly wrong, and what no longer is.
fn log(before: &[Diagnostic], now: &[Diagnostic]) {
    let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), now.iter().collect());
    for Diagnostic { severity, object, origin, field, message, .. } in now.difference(&before) {
        match severity {
            Severity::Error => tracing::warn!(%object, at = %origin, %field, "refused: {message}"),
            Severity::Warning => tracing::info!(%object, at = %origin, %field, "{message}"),
        }
    }
    for solved in before.difference(&now).filter(|diagnostic| diagnostic.severity == Severity::Error) {
        tracing::info!(object = %solved.object, field = %solved.field, "no longer refused");
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
