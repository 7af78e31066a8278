//! The API as a source: a supervised task for each resource, and for each object that is watched by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tracing::{error, info};

use crate::{
    client::Api,
    decode::{Key, Object},
    discovery::{self, Availability, Served},
    facts::{Facts, Noted},
    kinds::{CONFIG_MAP, DEFINITIONS, OBSERVED_CONFIG_MAPS, RESOURCES, Resource, SECRET},
    log::Repeated,
    status::{Record, Statuses},
    watch::{
        state::{Delta, Timing},
        task::{Decode, Shared, Target, Update, follow},
    },
};

/// Capacity of the channel of updates. The watches wait while it is full.
const QUEUE: usize = 1024;
/// The pause before a task that ended is started again.
const RESTART: Duration = Duration::from_secs(1);

/// An object that is watched by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedObject {
    /// A ConfigMap.
    ConfigMap(Key),
    /// A Secret.
    Secret(Key),
}

impl NamedObject {
    /// Its resource and its name.
    pub fn resource_and_key(&self) -> (&'static Resource, &Key) {
        match self {
            Self::ConfigMap(key) => (CONFIG_MAP, key),
            Self::Secret(key) => (SECRET, key),
        }
    }

    /// Its place in the report.
    fn place(&self) -> usize {
        match self {
            Self::ConfigMap(_) => RESOURCES.len() + 1,
            Self::Secret(_) => RESOURCES.len() + 2,
        }
    }
}

/// All lists and watches of an API. They end when it is dropped.
pub struct Source<T> {
    follower: Follower<T>,
    statuses: Statuses,
    tasks: JoinSet<()>,
    named: BTreeMap<NamedObject, Named>,
    /// Tasks that still have to send the deletion of their object.
    ending: BTreeMap<NamedObject, JoinHandle<()>>,
    /// ConfigMaps are watched in all namespaces.
    observes: bool,
}

/// The task of one object.
struct Named {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Source<T> {
    /// Lists and watches all of [`RESOURCES`]. Updates have what `decode` returns for each object.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime.
    pub fn start(
        api: &Api,
        timing: Timing,
        decode: impl Fn(&'static Resource, Object) -> T + Send + Sync + 'static,
    ) -> (Self, mpsc::Receiver<Update<T>>) {
        let (out, updates) = mpsc::channel(QUEUE);
        let server = api.server();
        let log = Arc::new(Repeated::default());
        let facts = Facts::default();
        let shared = Shared { client: api.client(), server: server.into(), timing, log, facts };
        let statuses = Statuses::new(server.to_owned());
        let (publish, served) = watch::channel(None);
        let follower = Follower { shared, decode: Arc::new(decode), out, served };
        let (named, ending) = (BTreeMap::new(), BTreeMap::new());
        let tasks = JoinSet::new();
        let mut source = Self { follower, statuses, tasks, named, ending, observes: false };
        source.follow_definitions(publish);
        for (place, resource) in RESOURCES.iter().enumerate() {
            let record = source.statuses.record(place, resource, None);
            let follower = source.follower.clone();
            source.tasks.spawn(async move { follower.supervise(resource, None, record).await });
        }
        (source, updates)
    }

    /// The state of all lists and watches.
    pub fn statuses(&self) -> Statuses {
        self.statuses.clone()
    }

    /// What the API has of objects that are written to.
    pub fn facts(&self) -> Facts {
        self.follower.shared.facts.clone()
    }

    /// Watches the ConfigMaps of this name in all namespaces, for [`Source::facts`] alone: there are no updates. Only the
    /// first call has an effect. Must be called within a tokio runtime.
    pub fn observe_config_maps(&mut self, name: &str) {
        if std::mem::replace(&mut self.observes, true) {
            return;
        }
        let (resource, key) = (OBSERVED_CONFIG_MAPS, Key::everywhere(name));
        let record = self.statuses.record(RESOURCES.len() + 1, resource, Some(key.clone()));
        let (out, mut updates) = mpsc::channel(QUEUE);
        let Follower { shared, served, .. } = self.follower.clone();
        let follower = Follower { shared, decode: Arc::new(|_, _| ()), out, served };
        self.tasks.spawn(async move { follower.supervise(resource, Some(key), record).await });
        self.tasks.spawn(async move { while updates.recv().await.is_some() {} });
    }

    /// Watches exactly these objects by name. The updates have a deletion for each object that is not wanted any more.
    /// Must be called within a tokio runtime.
    pub fn follow_named(&mut self, wanted: &BTreeSet<NamedObject>) {
        self.ending.retain(|_, task| !task.is_finished());
        for (named, Named { stop, task }) in self.named.extract_if(.., |named, _| !wanted.contains(named)) {
            // Fails only if the task has ended.
            let _ = stop.send(());
            self.ending.insert(named, task);
        }
        for named in wanted {
            if !self.named.contains_key(named) {
                let task = self.spawn_named(named);
                self.named.insert(named.clone(), task);
            }
        }
    }

    fn spawn_named(&mut self, named: &NamedObject) -> Named {
        let before = self.ending.remove(named);
        let (place, (resource, key)) = (named.place(), named.resource_and_key());
        let (follower, statuses, key) = (self.follower.clone(), self.statuses.clone(), key.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Its updates must come first. How it ended does not matter.
                let _ = before.await;
            }
            let out = follower.out.clone();
            let record = statuses.record(place, resource, Some(key.clone()));
            let stopped = tokio::select! {
                () = follower.supervise(resource, Some(key.clone()), record) => return,
                stopped = stopped => stopped,
            };
            if stopped.is_ok() {
                statuses.forget(place, &key);
                let delta = Delta::Delete(key.clone());
                // Fails only if the receiver was dropped.
                let _ = out.send(Update { resource, object: Some(key), delta, revision: 0 }).await;
            }
        });
        Named { stop, task }
    }

    fn follow_definitions(&mut self, publish: watch::Sender<Option<Served>>) {
        let record = self.statuses.record(RESOURCES.len(), DEFINITIONS, None);
        let (out, definitions) = mpsc::channel(QUEUE);
        let shared = self.follower.shared.clone();
        let decode: Decode<_> = Arc::new(|_, object| discovery::definition(&object));
        let follower = Follower { shared: shared.clone(), decode, out, served: self.follower.served.clone() };
        let theirs = record.clone();
        self.tasks.spawn(async move { follower.supervise(DEFINITIONS, None, theirs).await });
        self.tasks.spawn(discovery::discover(shared, record, definitions, publish));
    }
}

/// Lists and watches of single objects alone. They end when it is dropped.
pub struct NamedSource {
    statuses: Statuses,
    _tasks: JoinSet<()>,
}

impl NamedSource {
    /// Lists and watches each of `objects` by name. Updates have what `decode` returns for each object.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime.
    pub fn start<T: Send + 'static>(
        api: &Api,
        timing: Timing,
        objects: &BTreeSet<NamedObject>,
        decode: impl Fn(&'static Resource, Object) -> T + Send + Sync + 'static,
    ) -> (Self, mpsc::Receiver<Update<T>>) {
        let (out, updates) = mpsc::channel(QUEUE);
        let server = api.server();
        let (log, facts) = (Arc::default(), Facts::default());
        let shared = Shared { client: api.client(), server: server.into(), timing, log, facts };
        let statuses = Statuses::new(server.to_owned());
        // ConfigMaps and Secrets are served without a definition.
        let (_, served) = watch::channel(None);
        let follower = Follower { shared, decode: Arc::new(decode), out, served };
        let mut tasks = JoinSet::new();
        for object in objects {
            let (place, (resource, key)) = (object.place(), object.resource_and_key());
            let record = statuses.record(place, resource, Some(key.clone()));
            let (follower, key) = (follower.clone(), key.clone());
            tasks.spawn(async move { follower.supervise(resource, Some(key), record).await });
        }
        (Self { statuses, _tasks: tasks }, updates)
    }

    /// The state of these lists and watches.
    pub fn statuses(&self) -> Statuses {
        self.statuses.clone()
    }
}

/// What a task needs to list and watch a resource.
struct Follower<T> {
    shared: Shared,
    decode: Decode<T>,
    out: mpsc::Sender<Update<T>>,
    served: watch::Receiver<Option<Served>>,
}

impl<T> Clone for Follower<T> {
    fn clone(&self) -> Self {
        let Self { shared, decode, out, served } = self;
        Self { shared: shared.clone(), decode: decode.clone(), out: out.clone(), served: served.clone() }
    }
}

impl<T: Send + 'static> Follower<T> {
    /// Lists and watches a resource while it is served, in a version that is served, until the channel is closed. If the
    /// watch panics or ends for another reason, it is started again.
    async fn supervise(mut self, resource: &'static Resource, object: Option<Key>, record: Arc<Record>) {
        let mut served = false;
        loop {
            let available = self.available(resource);
            if served && available == Availability::Missing {
                info!(
                    resource = resource.name(),
                    "the API no longer serves this resource: its objects are removed"
                );
            }
            served = matches!(available, Availability::Served(..));
            let target = match &available {
                Availability::Unknown => {
                    record.pending();
                    None
                }
                Availability::Missing => {
                    record.missing();
                    let (object, delta) = (object.clone(), Delta::Resync(Vec::new()));
                    let nothing = resource.noted.map(|_| Noted::All(Vec::new()));
                    let facts = &self.shared.facts;
                    let revision = nothing.map_or(0, |nothing| facts.note(resource, "", nothing));
                    if self.out.send(Update { resource, object, delta, revision }).await.is_err() {
                        return;
                    }
                    None
                }
                Availability::Served(versions, version) => {
                    record.set_version(versions, version);
                    Some(Target { resource, version, object: object.clone() })
                }
            };
            let Some(target) = target else {
                self.differs(resource, &available).await;
                continue;
            };
            let Self { shared, decode, out, .. } = self.clone();
            let followed = AssertUnwindSafe(follow(&shared, &target, &decode, &record, &out)).catch_unwind();
            let ended = tokio::select! {
                ended = followed => ended,
                () = self.differs(resource, &available) => {
                    record.replaced();
                    continue;
                }
            };
            if out.is_closed() {
                return;
            }
            let reason = if ended.is_err() { "its task panicked" } else { "its task ended" };
            record.restarts(format!("{reason} and was started again"), SystemTime::now());
            error!(resource = resource.name(), reason, "a watch is started again");
            sleep(RESTART).await;
        }
    }

    fn available(&mut self, resource: &Resource) -> Availability {
        Availability::of(resource, self.served.borrow_and_update().as_ref())
    }

    /// Waits until the availability of the resource differs from `before`.
    async fn differs(&mut self, resource: &Resource, before: &Availability) {
        while self.available(resource) == *before {
            if self.served.changed().await.is_err() {
                // The sender was dropped: the availability does not change any more.
                std::future::pending::<()>().await;
            }
        }
    }
}
