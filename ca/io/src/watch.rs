//! Waiting for changes in a set of folders: file events where the system has them, and a time limit in any case.
//!
//! Folders are watched, not files, because a file that is replaced takes its watch with it. That also covers a mounted
//! ConfigMap or Secret, whose `..data` symlink is replaced in the watched folder.

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

/// What is said once where the system has no file events, or not enough of them.
const NO_EVENTS: &str = "no file events: looking every second instead; raise the sysctl fs.inotify.max_user_instances or \
                         fs.inotify.max_user_watches";

/// Device and inode: which folder a path stands for. A folder that is replaced by another takes its watch with it.
pub type FolderId = (u64, u64);

/// Which folder stands at `path`; `None` if there is none or it cannot be examined.
pub fn folder_id(path: &Path) -> Option<FolderId> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok()
}

/// How events are collected into one wake-up.
#[derive(Debug, Clone, Copy)]
pub struct Debounce {
    /// Time without events after an event: writers need a moment to finish.
    pub quiet: Duration,
    /// The longest time that further events delay a wake-up.
    pub limit: Duration,
}

/// Watched folders and the events from them.
#[derive(Debug)]
pub struct FolderWatch {
    /// `None` where the system has no such service.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, FolderId>,
    /// Every folder is watched.
    complete: bool,
    /// That it is not has been said.
    told: bool,
    debounce: Debounce,
    events: mpsc::Receiver<()>,
}

impl FolderWatch {
    /// Watches no folder yet. Where the system has no file events, [`wait`](Self::wait) only waits for its time limit,
    /// and [`is_complete`](Self::is_complete) stays false.
    pub fn new(debounce: Debounce) -> Self {
        let (sender, events) = mpsc::sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, changes_something) {
                // Full: a wake-up is already due. Disconnected: there is no receiver any more.
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "{NO_EVENTS}"));
        Self {
            watcher: watcher.ok(),
            folders: BTreeMap::new(),
            complete: false,
            told: false,
            debounce,
            events,
        }
    }

    /// Watches nothing, as where the system has no file events; for tests.
    pub fn without_events(debounce: Debounce) -> Self {
        let (_, events) = mpsc::sync_channel(1);
        Self { watcher: None, folders: BTreeMap::new(), complete: false, told: false, debounce, events }
    }

    /// Watches exactly these folders. Returns whether one was added: if it was read before this call, a change in
    /// between was not noticed, so read it again.
    pub fn set(&mut self, folders: &BTreeMap<PathBuf, FolderId>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        self.folders.retain(|path, id| {
            let stays = folders.get(path) == Some(id);
            if !stays {
                // Most often the folder is gone, and its watch with it.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let known = self.folders.len();
        self.complete = true;
        for (path, id) in folders {
            if self.folders.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(path.clone(), *id)),
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::warn!(folder = %path.display(), %error, "{NO_EVENTS}");
                    }
                    self.complete = false;
                }
            }
        }
        self.told &= !self.complete;
        self.folders.len() > known
    }

    /// Whether every folder of the last [`set`](Self::set) is watched. Otherwise wait for a second at most.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Blocks until there is an event and the time without events after it, at most for `limit`.
    pub fn wait(&self, limit: Duration) {
        match self.events.recv_timeout(limit) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return thread::sleep(limit),
        }
        let first = Instant::now();
        while first.elapsed() < self.debounce.limit && self.events.recv_timeout(self.debounce.quiet).is_ok() {
        }
    }
}

/// Reading is no change; otherwise each look at a folder would cause the next.
fn changes_something(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DEBOUNCE: Debounce =
        Debounce { quiet: Duration::from_millis(50), limit: Duration::from_millis(500) };
    /// Longer than any test may take.
    const LONG: Duration = Duration::from_secs(20);

    fn watch(folder: &Path) -> FolderWatch {
        let mut watch = FolderWatch::new(DEBOUNCE);
        assert!(watch.set(&one(folder)) && watch.is_complete());
        assert!(!watch.set(&one(folder)), "it is watched already");
        watch
    }

    fn one(folder: &Path) -> BTreeMap<PathBuf, FolderId> {
        folder_id(folder).map(|id| (folder.to_owned(), id)).into_iter().collect()
    }

    fn wakes(watch: &FolderWatch) -> bool {
        let start = Instant::now();
        watch.wait(LONG);
        start.elapsed() < LONG
    }

    #[test]
    fn a_written_file_and_a_swapped_symlink_wake() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("..1", at("..data")).unwrap();
        let watch = watch(folder.path());
        fs::write(at("a"), "").unwrap();
        assert!(wakes(&watch));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(wakes(&watch));
        fs::read(at("a")).unwrap();
        let start = Instant::now();
        watch.wait(Duration::from_millis(300));
        assert!(start.elapsed() >= Duration::from_millis(300), "reading is no change");
    }

    #[test]
    fn events_that_go_on_delay_a_wake_up_only_so_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let watch = watch(folder.path());
        let (stop, stopped) = mpsc::channel::<()>();
        let writer = thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                fs::write(&path, "again").unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        assert!(wakes(&watch));
        drop(stop);
        writer.join().unwrap();
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut watch = watch(&folder);
        fs::rename(&folder, parent.path().join("old")).unwrap();
        assert!(!watch.set(&one(&folder)) && watch.is_complete(), "there is none");
        fs::create_dir(&folder).unwrap();
        assert!(watch.set(&one(&folder)));
        while watch.events.recv_timeout(DEBOUNCE.quiet).is_ok() {} // of the folder before
        fs::write(folder.join("a"), "").unwrap();
        assert!(wakes(&watch));
    }

    #[test]
    fn without_events_the_time_limit_counts() {
        let mut watch = FolderWatch::without_events(DEBOUNCE);
        let folder = tempfile::tempdir().unwrap();
        assert!(!watch.set(&one(folder.path())) && !watch.is_complete());
        let start = Instant::now();
        watch.wait(Duration::from_millis(100));
        assert!(start.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn reading_is_no_change() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind};
        let changes = |kind| changes_something(&Event::new(kind));
        assert!(!changes(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!changes(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(changes(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(changes(EventKind::Create(CreateKind::Any)));
        assert!(changes(EventKind::Modify(ModifyKind::Any)));
        assert!(changes(EventKind::Remove(RemoveKind::Any)));
    }
}
