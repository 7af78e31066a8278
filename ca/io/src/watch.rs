//! Waiting for changes in a set of folders: file events where the system has them, and a time limit in any case.
//!
//! Folders are watched, not files, because a file that is replaced takes its watch with it. That also covers a mounted
//! ConfigMap or Secret, whose `..data` symlink is replaced in the watched folder.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, TrySendError},
    },
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

/// Something that happened in a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderEvent {
    /// This file is whole: its writer closed it, or it was moved there.
    Whole(PathBuf),
    /// Something else became of this path.
    Path(PathBuf),
    /// More events came than were kept, or the system does not say what happened.
    Unknown,
}

/// How many events are kept until they are asked for.
const KEPT: usize = 1024;

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
    events: mpsc::Receiver<FolderEvent>,
    /// Events were not kept.
    lost: Arc<AtomicBool>,
}

impl FolderWatch {
    /// Watches no folder yet. Where the system has no file events, [`wait`](Self::wait) only waits for its time limit,
    /// and [`is_complete`](Self::is_complete) stays false.
    pub fn new(debounce: Debounce) -> Self {
        let (sender, events) = mpsc::sync_channel(KEPT);
        let lost = Arc::<AtomicBool>::default();
        let overflow = Arc::clone(&lost);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for event in read(event) {
                // Disconnected: there is no receiver any more.
                if matches!(sender.try_send(event), Err(TrySendError::Full(_))) {
                    overflow.store(true, Ordering::Release);
                }
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
            lost,
        }
    }

    /// Watches nothing, as where the system has no file events; for tests.
    pub fn without_events(debounce: Debounce) -> Self {
        let (_, events) = mpsc::sync_channel(1);
        let (folders, lost) = (BTreeMap::new(), Arc::default());
        Self { watcher: None, folders, complete: false, told: false, debounce, events, lost }
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
        if self.next(limit).is_empty() {
            return;
        }
        let first = Instant::now();
        while first.elapsed() < self.debounce.limit && !self.next(self.debounce.quiet).is_empty() {}
    }

    /// Blocks until there are events, at most for `limit`, and returns all that have come.
    pub fn next(&self, limit: Duration) -> Vec<FolderEvent> {
        let first = match self.events.recv_timeout(limit) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(limit);
                return Vec::new();
            }
        };
        let lost = || self.lost.swap(false, Ordering::Acquire).then_some(FolderEvent::Unknown);
        [first].into_iter().chain(self.events.try_iter()).chain(lost()).collect()
    }
}

/// What the system tells, as events of folders.
fn read(event: notify::Result<Event>) -> Vec<FolderEvent> {
    use notify::event::{ModifyKind, RenameMode};
    let Ok(mut event) = event else { return vec![FolderEvent::Unknown] };
    if !changes_something(&event) {
        return Vec::new();
    }
    if event.need_rescan() || event.paths.is_empty() {
        return vec![FolderEvent::Unknown];
    }
    let is_whole = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
    );
    // Of a move, the last path is the new one.
    let whole = if is_whole { event.paths.pop().map(FolderEvent::Whole) } else { None };
    event.paths.into_iter().map(FolderEvent::Path).chain(whole).collect()
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

    /// A file that is being written is not whole; one that is moved or closed is.
    #[test]
    fn events_tell_which_files_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let watch = watch(folder.path());
        let whole = || loop {
            let events = watch.next(LONG);
            assert!(!events.is_empty(), "no event in time");
            let whole = events.into_iter().find_map(|event| match event {
                FolderEvent::Whole(path) => Some(path),
                _ => None,
            });
            if let Some(path) = whole {
                return path;
            }
        };
        let mut file = fs::File::create(at("a")).unwrap();
        std::io::Write::write_all(&mut file, b"half").unwrap();
        let events = watch.next(LONG);
        assert!(!events.is_empty());
        assert!(!events.contains(&FolderEvent::Whole(at("a"))), "{events:?}");
        drop(file);
        assert_eq!(whole(), at("a"));
        fs::rename(at("a"), at("b")).unwrap();
        assert_eq!(whole(), at("b"));
    }

    #[test]
    fn more_events_than_are_kept_are_one_that_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let watch = watch(folder.path());
        for number in 0..KEPT {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        let mut all = Vec::new();
        while !all.contains(&FolderEvent::Unknown) {
            let more = watch.next(LONG);
            assert!(!more.is_empty(), "no event in time");
            all.extend(more);
        }
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
