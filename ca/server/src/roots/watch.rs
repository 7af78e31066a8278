//! Waiting for a change of folders: file events where the system has them, and a look every second in any case.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

/// Silence after an event before anybody looks: writers need a moment to finish.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// The longest that events without silence put a look off.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watched folders and the events from them.
pub(super) struct Watch {
    /// `None` where the system has no such service.
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of each: a folder that is replaced takes its watch with it.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    events: mpsc::Receiver<()>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let (sender, events) = mpsc::sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, changes_something) {
                // Full: the wake-up is already due. Gone: nobody waits any more.
                let _ = sender.try_send(());
            }
        });
        Self { watcher: watcher.ok(), folders: BTreeMap::new(), events }
    }

    /// Watches `folder` if it is there and not watched yet.
    pub(super) fn cover(&mut self, folder: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let id = fs::metadata(folder).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if id == self.folders.get(folder).copied() {
            return;
        }
        if self.folders.remove(folder).is_some() {
            let _ = watcher.unwatch(folder); // most often its watch went with it
        }
        if let Some(id) = id.filter(|_| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()) {
            self.folders.insert(folder.to_owned(), id);
        }
    }

    /// Waits for an event and the silence after it, at most for `limit`.
    pub(super) fn wait(&self, limit: Duration) {
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
