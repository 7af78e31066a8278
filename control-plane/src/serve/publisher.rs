//! The one writer: it owns the index, follows the input, and publishes to every connected proxy its view.
//!
//! What a batch of changes touched is recomputed by the [`Fleet`]; here are the channels around it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::Arc,
    thread,
};

use eastwest_engine::{DirtySet, Index, Snapshot};
use eastwest_io::defects;
use eastwest_model::{Change, MeshConfig, Workload};
use eastwest_translate::{ConnectError, Fleet, ProxyKey};
use eastwest_xds::{TypeUrl, View};
use eastwest_xds_server::StreamObserver;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tonic::Status;

use super::input::Input;
use crate::query::World;

/// The number of proxies that may wait for their view.
const WAITING: usize = 1024;

/// A stream asks for the view of its proxy.
struct Request {
    key: ProxyKey,
    workload: Arc<Workload>,
    reply: oneshot::Sender<Result<Subscription, ConnectError>>,
}

/// What a stream tells later. There are at most two of a stream.
enum Notice {
    /// It asks for the settings of its workload.
    WantsSettings(Arc<ProxyKey>),
    /// It has ended.
    Ended(Arc<ProxyKey>),
}

/// A view, followed by one stream.
pub(super) struct Subscription {
    /// The view, now and later.
    pub(super) view: watch::Receiver<Arc<View>>,
    /// Kept as long as the stream lives.
    pub(super) lease: Lease,
}

/// One stream that follows a view. The proxy is forgotten when its last lease is dropped.
pub(super) struct Lease {
    key: Arc<ProxyKey>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl StreamObserver for Lease {
    fn requested_first(&mut self, type_url: &TypeUrl) {
        if *type_url == TypeUrl::WORKLOAD_TLS {
            // Without a publisher the stream ends.
            let _ = self.notices.send(Notice::WantsSettings(Arc::clone(&self.key)));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.notices.send(Notice::Ended(Arc::clone(&self.key)));
    }
}

/// Where proxies get their views.
#[derive(Clone)]
pub(super) struct Subscribers(mpsc::Sender<Request>);

impl Subscribers {
    /// The view of a proxy. `workload` is used as long as no Pod of its name is known.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a workload that cannot have an identity, `UNAVAILABLE` when its service account has just
    /// changed or the publisher has ended.
    pub(super) async fn subscribe(
        &self,
        key: ProxyKey,
        workload: Arc<Workload>,
    ) -> Result<Subscription, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = |_| Status::unavailable("the control plane is shutting down; try again");
        self.0.send(Request { key, workload, reply }).await.map_err(|_| stopping(()))?;
        let subscription = answer.await.map_err(|_| stopping(()))?;
        subscription.map_err(|error| match error {
            ConnectError::Identity(error) => Status::invalid_argument(format!("node.id: {error}")),
            ConnectError::OtherServiceAccount => Status::unavailable(format!("{error}: connect again")),
        })
    }
}

/// The view of a connected proxy.
struct Published {
    view: watch::Sender<Arc<View>>,
    streams: usize,
}

/// The writer.
pub(super) struct Publisher {
    input: Input,
    index: Index,
    fleet: Fleet,
    world: watch::Sender<World>,
    requests: mpsc::Receiver<Request>,
    notices: mpsc::UnboundedReceiver<Notice>,
    notify: mpsc::UnboundedSender<Notice>,
    published: BTreeMap<Arc<ProxyKey>, Published>,
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
        let (sender, requests) = mpsc::channel(WAITING);
        let (notify, notices) = mpsc::unbounded_channel();
        let (fleet, published) = (Fleet::default(), BTreeMap::new());
        let publisher = Self { input, index, fleet, world, requests, notices, notify, published };
        (publisher, Subscribers(sender), reader)
    }

    /// Starts a thread for it, so that what it computes holds up no connection. Completes when that thread ends.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let runtime = Handle::current();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("publisher".to_owned()).spawn(move || {
            defects::vital("the publisher", || runtime.block_on(self.run()));
            drop(running);
        })?;
        Ok(async { drop(ended.await) })
    }

    /// Runs until the input ends or nobody can subscribe any more.
    async fn run(mut self) {
        loop {
            tokio::select! {
                changes = self.input.next() => match changes {
                    Some(changes) => self.take_in(changes),
                    None => return,
                },
                request = self.requests.recv() => match request {
                    Some(Request { key, workload, reply }) => {
                        // If the stream has ended meanwhile, its lease is dropped here.
                        let _ = reply.send(self.subscribe(key, &workload));
                    }
                    None => return,
                },
                Some(notice) = self.notices.recv() => self.note(notice),
            }
        }
    }

    fn take_in(&mut self, changes: Vec<Change>) {
        defects::fault("publisher");
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

    fn subscribe(&mut self, key: ProxyKey, workload: &Arc<Workload>) -> Result<Subscription, ConnectError> {
        let entry = self.published.entry(Arc::new(key));
        let key = Arc::clone(entry.key());
        let published = match entry {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let snapshot = Arc::clone(&self.world.borrow().snapshot);
                let view = watch::Sender::new(self.fleet.connect(&snapshot, workload, (*key).clone())?);
                place.insert(Published { view, streams: 0 })
            }
        };
        published.streams += 1;
        let lease = Lease { key, notices: self.notify.clone() };
        Ok(Subscription { view: published.view.subscribe(), lease })
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::WantsSettings(key) => self.add_settings(&key),
            Notice::Ended(key) => self.end(&key),
        }
    }

    fn add_settings(&mut self, key: &ProxyKey) {
        let snapshot = Arc::clone(&self.world.borrow().snapshot);
        if let Some(view) = self.fleet.add_settings(&snapshot, key) {
            self.send(key, view);
        }
    }

    /// Publishes the views that differ after a change. The streams of proxies end whose Pod turns out to have another
    /// service account, or is gone.
    fn publish(&mut self, snapshot: &Snapshot, dirty: &DirtySet) {
        for key in self.fleet.not_entitled(snapshot, dirty) {
            self.forget(&key);
        }
        for (key, view) in self.fleet.update(snapshot, dirty) {
            self.send(&key, view);
        }
    }

    fn send(&self, key: &ProxyKey, view: Arc<View>) {
        if let Some(published) = self.published.get(key) {
            published.view.send_replace(view);
        }
    }

    /// Notes the end of a stream.
    fn end(&mut self, key: &Arc<ProxyKey>) {
        // A lease of streams that the publisher ended is another one than that of streams that came back since.
        let is_current = self.published.get_key_value(key).is_some_and(|(known, _)| Arc::ptr_eq(known, key));
        let Some(published) = self.published.get_mut(key).filter(|_| is_current) else { return };
        published.streams -= 1;
        if published.streams == 0 {
            self.forget(key);
        }
    }

    /// Forgets a proxy. Its streams end, for nobody publishes a view for them any more.
    fn forget(&mut self, key: &ProxyKey) {
        self.fleet.disconnect(key);
        self.published.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use eastwest_manifest::merge::SourceId;
    use eastwest_model::{Kind, Meta, ObjectRef, TrustDomain};
    use eastwest_translate::{Audience, ProxyFacts, ProxyRole};

    use super::*;

    fn publisher() -> Publisher {
        let mesh = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let (input, _) = Input::new(&[SourceId::new("test")]);
        Publisher::new(mesh, input, Vec::new()).0
    }

    /// A stream of the one proxy.
    fn stream(publisher: &mut Publisher) -> Subscription {
        let workload = Arc::new(Workload::new(Meta::new(ObjectRef::new(Kind::Pod, "shop", "web-0"))));
        let facts = ProxyFacts::usual(Audience::Other);
        publisher.subscribe(ProxyKey::of(&workload, ProxyRole::Sidecar, facts), &workload).unwrap()
    }

    fn note_all(publisher: &mut Publisher) {
        while let Ok(notice) = publisher.notices.try_recv() {
            publisher.note(notice);
        }
    }

    #[test]
    fn a_proxy_is_forgotten_with_its_last_stream() {
        let mut publisher = publisher();
        let (first, second) = (stream(&mut publisher), stream(&mut publisher));
        drop(first);
        note_all(&mut publisher);
        assert_eq!(publisher.published.len(), 1);
        drop(second);
        note_all(&mut publisher);
        assert!(publisher.published.is_empty());
    }

    #[test]
    fn an_old_stream_does_not_end_a_view_that_was_published_again() {
        let mut publisher = publisher();
        let old = stream(&mut publisher);
        publisher.forget(&old.lease.key);
        assert!(old.view.has_changed().is_err(), "the stream ends");
        let new = stream(&mut publisher);
        drop(old);
        note_all(&mut publisher);
        assert!(new.view.has_changed().is_ok());
        assert_eq!(publisher.published.len(), 1);
    }

    #[test]
    fn the_settings_of_a_workload_are_made_for_a_proxy_that_asks_for_them() {
        let mut publisher = publisher();
        let mut stream = stream(&mut publisher);
        stream.lease.requested_first(&TypeUrl::CLUSTER);
        note_all(&mut publisher);
        assert!(!stream.view.has_changed().unwrap());
        stream.lease.requested_first(&TypeUrl::WORKLOAD_TLS);
        note_all(&mut publisher);
        let view = stream.view.borrow_and_update();
        assert_eq!(view.get(&TypeUrl::WORKLOAD_TLS).unwrap().len(), 1);
    }
}
