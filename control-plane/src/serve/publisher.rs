//! The one writer: it owns the index, follows the input, and publishes to every connected proxy its view.
//!
//! What a batch of changes touched is recomputed by the [`Fleet`]; here are the channels around it.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::{DirtySet, Index, Snapshot};
use eastwest_model::{Change, IdentityError, MeshConfig, Workload};
use eastwest_translate::{Fleet, ProxyKey};
use eastwest_xds::View;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::input::Input;
use crate::query::World;

/// The number of proxies that may wait for their view.
const WAITING: usize = 1024;

/// A request for the view of a proxy.
struct Subscription {
    key: ProxyKey,
    workload: Arc<Workload>,
    reply: oneshot::Sender<Result<watch::Receiver<Arc<View>>, IdentityError>>,
}

/// Where proxies get their views.
#[derive(Clone)]
pub(super) struct Subscribers(mpsc::Sender<Subscription>);

impl Subscribers {
    /// The view of a proxy, followed as long as the receiver lives. `workload` is used as long as no Pod of its name is
    /// known.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a workload that cannot have an identity, `UNAVAILABLE` when the publisher has ended.
    pub(super) async fn subscribe(
        &self,
        key: ProxyKey,
        workload: Arc<Workload>,
    ) -> Result<watch::Receiver<Arc<View>>, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = |_| Status::unavailable("the control plane is shutting down; try again");
        self.0.send(Subscription { key, workload, reply }).await.map_err(|_| stopping(()))?;
        let view = answer.await.map_err(|_| stopping(()))?;
        view.map_err(|error| Status::invalid_argument(format!("node.id: {error}")))
    }
}

/// The writer.
pub(super) struct Publisher {
    input: Input,
    index: Index,
    fleet: Fleet,
    world: watch::Sender<World>,
    waiting: mpsc::Receiver<Subscription>,
    views: BTreeMap<ProxyKey, watch::Sender<Arc<View>>>,
}

impl Publisher {
    /// A publisher that has taken in the `first` changes of its input; with it where proxies subscribe and where the
    /// world is read.
    pub(super) fn new(
        mesh: MeshConfig,
        input: Input,
        first: Vec<Change>,
    ) -> (Self, Subscribers, watch::Receiver<World>) {
        let mut index = Index::new(mesh);
        first.into_iter().for_each(|change| drop(index.apply(change)));
        let (world, reader) = watch::channel(World {
            snapshot: index.freeze(),
            input: Arc::clone(input.diagnostics()),
            progress: input.progress().clone(),
        });
        let (sender, waiting) = mpsc::channel(WAITING);
        let publisher =
            Self { input, index, fleet: Fleet::default(), world, waiting, views: BTreeMap::new() };
        (publisher, Subscribers(sender), reader)
    }

    /// Runs until the input ends or nobody can subscribe any more.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                changes = self.input.next() => match changes {
                    Some(changes) => self.take_in(changes),
                    None => return,
                },
                subscription = self.waiting.recv() => match subscription {
                    Some(subscription) => self.subscribe(subscription),
                    None => return,
                },
            }
        }
    }

    fn take_in(&mut self, changes: Vec<Change>) {
        let same_findings = Arc::ptr_eq(&self.world.borrow().input, self.input.diagnostics());
        let progress = self.input.progress().clone();
        if changes.is_empty() && same_findings {
            self.world.send_if_modified(|world| {
                let differs = world.progress != progress;
                world.progress = progress;
                differs
            });
            return;
        }
        let mut dirty = DirtySet::default();
        dirty.extend(changes.into_iter().map(|change| self.index.apply(change)));
        let (snapshot, input) = (self.index.freeze(), Arc::clone(self.input.diagnostics()));
        self.world.send_replace(World { snapshot: Arc::clone(&snapshot), input, progress });
        if !dirty.is_empty() {
            self.publish(&snapshot, &dirty);
        }
    }

    fn subscribe(&mut self, Subscription { key, workload, reply }: Subscription) {
        let view = match self.views.get(&key) {
            Some(view) => Ok(view.subscribe()),
            None => {
                let snapshot = Arc::clone(&self.world.borrow().snapshot);
                self.fleet
                    .connect(&snapshot, &workload, key.clone())
                    .map(|view| self.views.entry(key).or_insert_with(|| watch::Sender::new(view)).subscribe())
            }
        };
        // A proxy that disconnected meanwhile is pruned with the next change.
        let _ = reply.send(view);
    }

    /// Publishes the views that differ after a change.
    fn publish(&mut self, snapshot: &Snapshot, dirty: &DirtySet) {
        self.prune(snapshot);
        for (key, view) in self.fleet.update(snapshot, dirty) {
            if let Some(sender) = self.views.get(&key) {
                sender.send_replace(view);
            }
        }
    }

    /// Forgets proxies that went away, and ends the streams of those whose Pod turns out to have another service
    /// account.
    fn prune(&mut self, snapshot: &Snapshot) {
        let gone = self.views.iter().filter(|(_, view)| view.is_closed()).map(|(key, _)| key.clone());
        let gone: Vec<_> = gone.chain(self.fleet.with_other_service_account(snapshot)).collect();
        for key in &gone {
            self.fleet.disconnect(key);
            self.views.remove(key);
        }
    }
}
