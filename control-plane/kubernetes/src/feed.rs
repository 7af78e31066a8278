//! The API as the input of a mesh: everything that it has as one batch, and then its changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use eastwest_manifest::{
    merge::{Batch, SourceId},
    parse::Document,
};
use eastwest_model::{MeshConfig, mesh::MESH_CONFIG_MAP};
use serde_json::Value;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    batches::{Batches, document, follow},
    client::Api,
    credentials::{AsDocument, CredentialNames},
    decode::{Key, Object},
    facts::Progress,
    kinds::{DEFINITIONS, RESOURCES},
    source::{NamedObject, Source},
    status::{KindStatus, State, Statuses},
    watch::{
        state::{Delta, Timing},
        task::Update,
    },
};

/// How many updates are sent as one batch at most.
const BATCH: usize = 1024;
/// How long the first batch waits for credentials when everything else is complete. A Secret that we may not read must
/// not hold up the mesh.
const CREDENTIALS: Duration = Duration::from_secs(5);
/// How long [`load`] goes on when the API does not answer.
const NO_ANSWER: Duration = Duration::from_secs(15);
/// How often [`load`] looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

/// The API as a source of the merge stage. It ends when it is dropped.
pub struct Feed(Following<Document>);

impl Feed {
    /// Lists and watches everything that decides. The mesh's settings are in the ConfigMap `istio` of the root namespace;
    /// `defaults` count where it is silent.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime.
    pub fn start(api: &Api, timing: Timing, defaults: MeshConfig) -> Self {
        let mesh = mesh_config(&defaults);
        Self(Following::new(follow(api, timing, defaults), mesh))
    }

    /// The state of all lists and watches.
    pub fn statuses(&self) -> Statuses {
        self.0.source.statuses()
    }

    /// The lists and watches.
    pub fn source(&mut self) -> &mut Source<Document> {
        &mut self.0.source
    }

    /// Sends everything that the API has as one batch, and then its changes, until `batches` is closed. With each batch goes
    /// how far the updates in it and before lead.
    pub async fn run<T: From<(Batch, Progress)>>(self, id: SourceId, batches: mpsc::Sender<T>) {
        let mut following = self.0;
        let mut updates = following.first().await;
        let (mut made, mut progress) = (Batches::new(id), Progress::default());
        loop {
            updates.iter().for_each(|update| progress.take(update.resource, update.revision));
            let sent = (made.next(updates.drain(..)), progress.clone());
            if batches.send(sent.into()).await.is_err() {
                return;
            }
            if following.updates.recv_many(&mut updates, BATCH).await == 0 {
                return;
            }
            following.note(&updates);
        }
    }
}

/// The ConfigMap with the mesh's settings.
fn mesh_config(defaults: &MeshConfig) -> NamedObject {
    NamedObject::ConfigMap(Key { namespace: (*defaults.root_namespace).into(), name: MESH_CONFIG_MAP.into() })
}

/// All kinds, the mesh's settings, and the credentials that rules name.
pub(crate) struct Following<T> {
    pub(crate) source: Source<T>,
    updates: mpsc::Receiver<Update<T>>,
    mesh: NamedObject,
    credentials: CredentialNames,
}

impl<T: AsDocument> Following<T> {
    fn new((source, updates): (Source<T>, mpsc::Receiver<Update<T>>), mesh: NamedObject) -> Self {
        let mut following = Self { source, updates, mesh, credentials: CredentialNames::default() };
        following.follow_named();
        following
    }

    /// Everything that the API has, once all lists are complete.
    async fn first(&mut self) -> Vec<Update<T>> {
        let mut updates = Vec::new();
        let mut awaited = RESOURCES.iter().map(|resource| (resource.name(), None)).collect();
        await_named(&mut awaited, &BTreeSet::from([self.mesh.clone()]));
        while !awaited.is_empty() && self.receive(&mut updates, &mut awaited).await {}
        let deadline = Instant::now() + CREDENTIALS;
        let mut awaited = BTreeSet::new();
        await_named(&mut awaited, &self.credentials.all());
        for update in &updates {
            awaited.remove(&origin(update));
        }
        while !awaited.is_empty()
            && timeout_at(deadline, self.receive(&mut updates, &mut awaited)).await.unwrap_or(false)
        {}
        updates
    }

    async fn receive(&mut self, updates: &mut Vec<Update<T>>, awaited: &mut Awaited) -> bool {
        let before = updates.len();
        if self.updates.recv_many(updates, BATCH).await == 0 {
            return false;
        }
        let received = &updates[before..];
        received.iter().for_each(|update| {
            awaited.remove(&origin(update));
        });
        self.note(received);
        true
    }

    /// Follows the credentials that the rules name now.
    fn note(&mut self, updates: &[Update<T>]) {
        if updates.iter().fold(false, |changed, one| self.credentials.take_in(one) | changed) {
            self.follow_named();
        }
    }

    fn follow_named(&mut self) {
        let mut wanted = self.credentials.all();
        wanted.insert(self.mesh.clone());
        self.source.follow_named(&wanted);
    }
}

/// The lists that are not complete yet, by resource and object.
type Awaited = BTreeSet<(String, Option<Key>)>;

fn await_named(awaited: &mut Awaited, named: &BTreeSet<NamedObject>) {
    awaited.extend(named.iter().map(|named| {
        let (resource, key) = named.resource_and_key();
        (resource.name(), Some(key.clone()))
    }));
}

fn origin<T>(update: &Update<T>) -> (String, Option<Key>) {
    (update.resource.name(), update.object.clone())
}

/// Why the API cannot be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Lists that are not allowed; each with the missing rule.
    #[error("the Kubernetes API does not allow what is needed:\n  {}", .0.join("\n  "))]
    Forbidden(Vec<String>),
    /// The API does not answer.
    #[error("the Kubernetes API at {server} cannot be read:\n  {}", reasons.join("\n  "))]
    NoAnswer {
        /// Its address.
        server: String,
        /// The lists that are not complete, each with its last error.
        reasons: Vec<String>,
    },
}

/// Reads everything that the API has, once. `progress` is called with the number of objects from time to time.
///
/// # Errors
/// See [`LoadError`]. An API that does not answer is given up after 15 s without progress.
pub async fn load(
    api: &Api,
    id: &SourceId,
    defaults: MeshConfig,
    progress: impl Fn(usize),
) -> Result<Batch, LoadError> {
    let mesh = mesh_config(&defaults);
    let mut following = Following::new(follow(api, Timing::default(), defaults), mesh);
    once(&mut following, progress).await.map(|updates| Batches::new(id.clone()).next(updates))
}

/// Reads the objects that decide, as the API has them but without what nothing reads, once. Secrets are left out.
///
/// # Errors
/// As [`load`].
pub async fn dump(
    api: &Api,
    defaults: MeshConfig,
    progress: impl Fn(usize),
) -> Result<Vec<Value>, LoadError> {
    let mesh = mesh_config(&defaults);
    let followed = Source::start(api, Timing::default(), move |_, object: Object| Whole {
        document: document(&object, &defaults),
        value: object.value,
    });
    let mut following = Following::new(followed, mesh);
    following.credentials.leave_out_secrets();
    let mut objects = BTreeMap::new();
    for update in once(&mut following, progress).await? {
        let name = update.resource.name();
        match update.delta {
            Delta::Resync(all) => {
                objects.extend(all.into_iter().map(|(key, whole)| ((name.clone(), key), whole.value)));
            }
            Delta::Upsert(key, whole) => {
                objects.insert((name, key), whole.value);
            }
            Delta::Delete(key) => {
                objects.remove(&(name, key));
            }
        }
    }
    Ok(objects.into_values().collect())
}

/// An object with what was parsed of it.
struct Whole {
    document: Document,
    value: Value,
}

impl AsDocument for Whole {
    fn document(&self) -> &Document {
        &self.document
    }
}

async fn once<T: AsDocument>(
    following: &mut Following<T>,
    progress: impl Fn(usize),
) -> Result<Vec<Update<T>>, LoadError> {
    let statuses = following.source.statuses();
    tokio::select! {
        updates = following.first() => Ok(updates),
        error = watch_progress(&statuses, progress) => Err(error),
    }
}

/// Returns when the lists cannot become complete.
async fn watch_progress(statuses: &Statuses, progress: impl Fn(usize)) -> LoadError {
    let (mut seen, mut deadline) = (0, Instant::now() + NO_ANSWER);
    loop {
        sleep(LOOK).await;
        let report = statuses.report(SystemTime::now());
        let kinds = || report.sources.iter().filter(|source| source.object.is_none());
        let (objects, synced) = (
            kinds().map(|source| source.objects).sum::<usize>(),
            kinds().filter(|source| source.synced).count(),
        );
        progress(objects);
        if objects + synced > seen {
            (seen, deadline) = (objects + synced, Instant::now() + NO_ANSWER);
        }
        let polled = report.definitions == "polled";
        let forbidden = kinds().filter(|source| source.state == State::Forbidden);
        let mut forbidden = forbidden.filter(|source| !(polled && source.kind == DEFINITIONS.kind));
        if forbidden.next().is_some() {
            // The other kinds get the time to be refused too, so that all are named at once.
            sleep(LOOK * 5).await;
            let report = statuses.report(SystemTime::now());
            let all = report.sources.iter().filter(|one| one.state == State::Forbidden);
            return LoadError::Forbidden(all.map(KindStatus::problem).collect());
        }
        if Instant::now() > deadline {
            let server = statuses.server().to_owned();
            return LoadError::NoAnswer { server, reasons: statuses.unsynced(SystemTime::now()) };
        }
    }
}
