//! Following a directory: one thread that looks, waits for the file system to say that something happened, and looks
//! again. Folders are watched, not files, for a file that is replaced takes its watch with it.

use std::{
    io,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use eastwest_io::{FolderWatch, defects, watch::Debounce};
use eastwest_manifest::merge::{Batch, SourceId};
use eastwest_model::MeshConfig;
use tokio::sync::mpsc::Sender;

use crate::{
    SourceError,
    directory::Directory,
    scan::{FRESH, Scanner},
};

/// How long the directory must be quiet before it is looked at, and the longest that events put a look off.
const DEBOUNCE: Debounce = Debounce { quiet: Duration::from_millis(50), limit: Duration::from_millis(500) };
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
    scanner: Scanner,
    directory: Directory,
    watch: FolderWatch,
}

impl Follower {
    fn open(source: SourceId, path: &Path, defaults: MeshConfig) -> Result<Self, SourceError> {
        let scanner = Scanner::open(path)?;
        let directory = Directory::new(defaults);
        Ok(Self { source, rescan: RESCAN, scanner, directory, watch: FolderWatch::new(DEBOUNCE) })
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
            if is_first || !updates.is_empty() {
                is_first = false;
                if batches.blocking_send(Batch { source: self.source.clone(), updates }.into()).is_err() {
                    return;
                }
            }
            // A folder may have filled before it was watched: look once more.
            if !self.watch.set(self.scanner.folders()) {
                let soon = self.scanner.is_unsettled() || !self.watch.is_complete();
                self.watch.wait(if soon { FRESH } else { self.rescan });
            }
        }
    }
}

#[cfg(test)]
mod tests;
