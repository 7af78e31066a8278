//! Which changes are awaited, and which clients have them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

/// How long a change may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clients note. All of them run on one thread.
#[derive(Default)]
pub(crate) struct Board {
    awaited: RefCell<HashMap<String, Awaited>>,
    /// Clients that were answered for every type since they connected.
    complete: Cell<usize>,
    changed: Notify,
}

/// One change.
struct Awaited {
    written: Instant,
    /// By client; `None`: it has to come yet. Clients that are not concerned are not in it.
    missing: HashMap<usize, ()>,
    taken: Vec<Duration>,
}

impl Board {
    /// A file was replaced just now that changes `resource` for these clients.
    pub(crate) fn expect(&self, resource: String, clients: impl Iterator<Item = usize>) {
        let missing = clients.map(|client| (client, ())).collect();
        let awaited = Awaited { written: Instant::now(), missing, taken: Vec::new() };
        self.awaited.borrow_mut().insert(resource, awaited);
    }

    /// A client has received a resource.
    pub(crate) fn received(&self, client: usize, resource: &str) {
        let mut all = self.awaited.borrow_mut();
        let Some(awaited) = all.get_mut(resource) else { return };
        if awaited.missing.remove(&client).is_some() {
            awaited.taken.push(awaited.written.elapsed());
            if awaited.missing.is_empty() {
                self.changed.notify_waiters();
            }
        }
    }

    /// Whether any change is awaited.
    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.borrow().is_empty()
    }

    /// Waits until all changes are there, and returns how long each took to each client, and how many never came.
    pub(crate) async fn wait(&self) -> (Vec<Vec<Duration>>, usize) {
        let done = || self.awaited.borrow().values().all(|awaited| awaited.missing.is_empty());
        let _ = timeout(PATIENCE, self.until(done)).await;
        let all = self.awaited.take();
        let lost = all.values().map(|awaited| awaited.missing.len()).sum();
        (all.into_values().map(|awaited| awaited.taken).collect(), lost)
    }

    /// A client was answered for every type, or has lost its connection.
    pub(crate) fn note_complete(&self, more: bool) {
        let before = self.complete.get();
        self.complete.set(if more { before + 1 } else { before - 1 });
        self.changed.notify_waiters();
    }

    /// Waits until so many clients are complete. Returns whether they are.
    pub(crate) async fn wait_for_complete(&self, number: usize) -> bool {
        timeout(6 * PATIENCE, self.until(|| self.complete.get() == number)).await.is_ok()
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}
