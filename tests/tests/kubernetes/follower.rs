//! Something that follows an API and keeps what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use eastwest_kubernetes::{
    Api, ApiOptions, Delta, KindStatus, NamedObject, Object, Report, Source, Statuses, Timing, Update,
};
use eastwest_tests::process::until;
use serde_json::Value;
use tokio::{runtime::Runtime, sync::mpsc};

use crate::PATIENCE;

/// Kind, namespace, name.
pub(crate) type Name = (&'static str, String, String);

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) objects: BTreeMap<Name, Value>,
    /// Complete lists by kind.
    pub(crate) resyncs: BTreeMap<&'static str, usize>,
    /// Objects that were deleted by an update of their own.
    pub(crate) deletions: usize,
}

impl World {
    fn take(&mut self, update: Update<Value>) {
        let kind = update.resource.kind;
        match update.delta {
            Delta::Resync(all) => {
                *self.resyncs.entry(kind).or_default() += 1;
                let only = update.object;
                self.objects.retain(|(of, namespace, name), _| {
                    *of != kind
                        || only.as_ref().is_some_and(|key| (&*key.namespace, &*key.name) != (namespace, name))
                });
                let named = |(key, value): (eastwest_kubernetes::Key, _)| {
                    ((kind, key.namespace.into_string(), key.name.into_string()), value)
                };
                self.objects.extend(all.into_iter().map(named));
            }
            Delta::Upsert(key, value) => {
                self.objects.insert((kind, key.namespace.into_string(), key.name.into_string()), value);
            }
            Delta::Delete(key) => {
                self.deletions += 1;
                self.objects.remove(&(kind, key.namespace.into_string(), key.name.into_string()));
            }
        }
    }
}

/// A followed API.
pub(crate) struct Follower {
    runtime: Runtime,
    source: Source<Value>,
    statuses: Statuses,
    world: Arc<Mutex<World>>,
}

/// Deadlines that a test can wait for.
pub(crate) fn quick() -> Timing {
    Timing {
        answer: Duration::from_secs(2),
        page: Duration::from_secs(3),
        silence: Duration::from_secs(2),
        watch: Duration::from_secs(5),
        grace: Duration::from_secs(1),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(1),
    }
}

impl Follower {
    /// Begins to follow, with whatever the API has or has not.
    pub(crate) fn start(kubeconfig: &Path, timing: Timing) -> Self {
        Self::decoding(kubeconfig, timing, |object| object.value)
    }

    /// The same, with something else than the objects as they are.
    pub(crate) fn decoding(
        kubeconfig: &Path,
        timing: Timing,
        decode: impl Fn(Object) -> Value + Send + Sync + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let options = ApiOptions { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let (source, updates) = runtime.block_on(async {
            let api = Api::find(&options).await.unwrap();
            Source::start(&api, timing, move |_, object| decode(object))
        });
        runtime.spawn(keep(updates, world.clone()));
        let statuses = source.statuses();
        Self { runtime, source, statuses, world }
    }

    /// The same, and waits until everything is listed and live.
    pub(crate) fn synced(kubeconfig: &Path, timing: Timing) -> Self {
        let follower = Self::start(kubeconfig, timing);
        follower.wait_until_live();
        follower
    }

    pub(crate) fn follow_named(&mut self, names: impl IntoIterator<Item = NamedObject>) {
        let names: BTreeSet<_> = names.into_iter().collect();
        let _runtime = self.runtime.enter();
        self.source.follow_named(&names);
    }

    pub(crate) fn report(&self) -> Report {
        self.statuses.report(SystemTime::now())
    }

    pub(crate) fn unsynced(&self) -> Vec<String> {
        self.statuses.unsynced(SystemTime::now())
    }

    pub(crate) fn status(&self, kind: &str) -> KindStatus {
        self.report().sources.into_iter().find(|status| status.kind == kind).unwrap()
    }

    /// Waits until everything is listed and live.
    pub(crate) fn wait_until_live(&self) {
        self.wait("a live watch of everything", |_| {
            let report = self.report();
            report.synced && report.live
        });
    }

    /// Waits until what is known satisfies `condition`; how long it took.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&World) -> bool) -> Duration {
        self.wait_within(PATIENCE, what, condition)
    }

    pub(crate) fn wait_within(
        &self,
        patience: Duration,
        what: &str,
        condition: impl Fn(&World) -> bool,
    ) -> Duration {
        let start = Instant::now();
        let met = || Ok(condition(&self.world.lock().unwrap()).then_some(()));
        if let Err(error) = until(what, patience, met) {
            panic!("{error}: {:#?}", self.report());
        }
        start.elapsed()
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.world.lock().unwrap())
    }

    /// Names of a kind in a namespace.
    pub(crate) fn names(&self, kind: &str, namespace: &str) -> BTreeSet<String> {
        self.read(|world| names(world, kind, namespace))
    }
}

/// Names of a kind in a namespace.
pub(crate) fn names(world: &World, kind: &str, namespace: &str) -> BTreeSet<String> {
    let ours = world.objects.keys().filter(|(of, within, _)| *of == kind && within == namespace);
    ours.map(|(_, _, name)| name.clone()).collect()
}

async fn keep(mut updates: mpsc::Receiver<Update<Value>>, world: Arc<Mutex<World>>) {
    while let Some(update) = updates.recv().await {
        world.lock().unwrap().take(update);
    }
}
