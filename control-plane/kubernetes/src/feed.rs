//! The API as the input of a mesh: everything that it has as one batch, and then its changes.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use eastwest_manifest::{
    merge::{Batch, SourceId},
    parse::Document,
};
use eastwest_model::MeshConfig;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    batches::{batch, follow},
    client::Api,
    credentials::CredentialNames,
    decode::Key,
    kinds::RESOURCES,
    source::{NamedObject, Source},
    status::{State, Statuses},
    watch::{state::Timing, task::Update},
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
pub struct Feed {
    source: Source<Document>,
    updates: mpsc::Receiver<Update<Document>>,
    mesh: NamedObject,
    credentials: CredentialNames,
}

impl Feed {
    /// Lists and watches everything that decides. The mesh's settings are in the ConfigMap `istio` of the root namespace;
    /// `defaults` count where it is silent.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime.
    pub fn start(api: &Api, timing: Timing, defaults: MeshConfig) -> Self {
        let key = Key { namespace: (*defaults.root_namespace).into(), name: "istio".into() };
        let mesh = NamedObject::ConfigMap(key);
        let (source, updates) = follow(api, timing, defaults);
        let mut feed = Self { source, updates, mesh, credentials: CredentialNames::default() };
        feed.follow_named();
        feed
    }

    /// The state of all lists and watches.
    pub fn statuses(&self) -> Statuses {
        self.source.statuses()
    }

    /// Sends everything that the API has as one batch, and then its changes, until `batches` is closed.
    pub async fn run(mut self, id: SourceId, batches: mpsc::Sender<Batch>) {
        let mut updates = self.first().await;
        while batches.send(batch(&id, updates.drain(..))).await.is_ok() {
            if self.updates.recv_many(&mut updates, BATCH).await == 0 {
                return;
            }
            self.note(&updates);
        }
    }

    /// Everything that the API has, once all lists are complete.
    async fn first(&mut self) -> Vec<Update<Document>> {
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

    async fn receive(&mut self, updates: &mut Vec<Update<Document>>, awaited: &mut Awaited) -> bool {
        let before = updates.len();
        if self.updates.recv_many(updates, BATCH).await == 0 {
            return false;
        }
        let received = &updates[before..];
        received.iter().for_each(|update| {
            awaited.remove(&origin(update));
        });
        let changed = received.iter().fold(false, |changed, one| self.credentials.take_in(one) | changed);
        if changed {
            self.follow_named();
        }
        true
    }

    /// Follows the credentials that the rules name now.
    fn note(&mut self, updates: &[Update<Document>]) {
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

fn origin(update: &Update<Document>) -> (String, Option<Key>) {
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
    let mut feed = Feed::start(api, Timing::default(), defaults);
    let statuses = feed.statuses();
    let failure = watch_progress(&statuses, progress);
    tokio::select! {
        updates = feed.first() => Ok(batch(id, updates)),
        error = failure => Err(error),
    }
}

/// Returns when the lists cannot become complete.
async fn watch_progress(statuses: &Statuses, progress: impl Fn(usize)) -> LoadError {
    let (mut seen, mut deadline) = (0, Instant::now() + NO_ANSWER);
    loop {
        sleep_until(Instant::now() + LOOK).await;
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
        let forbidden = forbidden.filter(|source| !(polled && source.kind == "CustomResourceDefinition"));
        let reasons: Vec<_> = forbidden.map(crate::status::KindStatus::problem).collect();
        if !reasons.is_empty() {
            // The other kinds get the time to be refused too, so that all are named at once.
            sleep(LOOK * 5).await;
            let report = statuses.report(SystemTime::now());
            let all = report.sources.iter().filter(|one| one.state == State::Forbidden);
            return LoadError::Forbidden(all.map(crate::status::KindStatus::problem).collect());
        }
        if Instant::now() > deadline {
            let server = statuses.server().to_owned();
            return LoadError::NoAnswer { server, reasons: statuses.unsynced(SystemTime::now()) };
        }
    }
}
