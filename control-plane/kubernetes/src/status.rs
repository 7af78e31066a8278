//! Freshness: one record for each resource that is watched, in the shape of `/debug/sources`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use crate::{decode::Key, kinds::Resource};

/// The state of a list and watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// A watch is open, or is being replaced after its timeout.
    pub(crate) live: bool,
    /// A list has been complete.
    pub(crate) synced: bool,
    /// A list is under way.
    pub(crate) listing: bool,
    /// The number of known objects.
    pub(crate) objects: usize,
    /// Complete lists so far.
    pub(crate) lists: u64,
    /// Watches opened so far.
    pub(crate) watches: u64,
    /// Bookmarks so far.
    pub(crate) bookmarks: u64,
}

/// The state of a list and watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The served versions are not known yet.
    Pending,
    /// A list is in progress.
    Listing,
    /// A watch is open.
    Watching,
    /// The last request failed and will be repeated.
    Retrying,
    /// An RBAC rule is missing.
    Forbidden,
    /// The API does not serve the resource.
    Missing,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// Its time, RFC 3339.
    pub time: String,
    /// What failed.
    pub message: String,
}

/// The status of one resource, or of one object that is watched by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindStatus {
    /// `Pod`.
    pub kind: &'static str,
    /// `networking.istio.io`; empty for the core group.
    pub group: &'static str,
    /// `pods`.
    pub resource: &'static str,
    /// `NAMESPACE/NAME` of an object that is watched by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The supported versions that the API serves.
    pub served: Vec<String>,
    /// The version in use.
    pub version: Option<&'static str>,
    /// The state.
    pub state: State,
    /// Whether the watch is alive: false at most 60 s after it died. For a missing resource, that of the watch of
    /// CustomResourceDefinitions.
    pub live: bool,
    /// Whether a list has been complete, or the resource is missing.
    pub synced: bool,
    /// The number of known objects.
    pub objects: usize,
    /// The last event, bookmark or opening of the watch, RFC 3339.
    pub last_event: Option<String>,
    /// The end of the last list, RFC 3339.
    pub last_sync: Option<String>,
    /// Seconds since `last_event`.
    pub age_seconds: Option<f64>,
    /// The last failure, also after recovery.
    pub last_error: Option<LastError>,
    /// The number of complete lists.
    pub lists: u64,
    /// The number of opened watches.
    pub watches: u64,
    /// The number of bookmarks.
    pub bookmarks: u64,
    /// How often the task was started again.
    pub restarts: u64,
}

/// The content of `/debug/sources`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The API's address.
    pub server: String,
    /// How the served custom resources are known: `followed`, `polled` (without the right to watch definitions), or
    /// `unknown` so far.
    pub definitions: &'static str,
    /// Whether all sources are synced.
    pub synced: bool,
    /// Whether all sources are live.
    pub live: bool,
    /// Each resource, in a fixed order.
    pub sources: Vec<KindStatus>,
}

/// The status of all lists and watches. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Statuses(Arc<Shared>);

/// By the place in the report, and the object that is watched by name.
type Records = BTreeMap<(usize, Option<Key>), Arc<Record>>;

#[derive(Debug)]
struct Shared {
    server: String,
    records: Mutex<Records>,
    changed: watch::Sender<()>,
}

impl Statuses {
    pub(crate) fn new(server: String) -> Self {
        Self(Arc::new(Shared { server, records: Mutex::default(), changed: watch::Sender::new(()) }))
    }

    /// Returns the record of a resource, and creates it if necessary; `place` is its place in the report.
    pub(crate) fn record(
        &self,
        place: usize,
        resource: &'static Resource,
        object: Option<Key>,
    ) -> Arc<Record> {
        let make = || {
            let content = Content::default();
            Arc::new(Record {
                resource,
                object: object.clone(),
                content: Mutex::new(content),
                changed: self.0.changed.clone(),
            })
        };
        lock(&self.0.records).entry((place, object.clone())).or_insert_with(make).clone()
    }

    /// Removes a record.
    pub(crate) fn forget(&self, place: usize, object: &Key) {
        lock(&self.0.records).remove(&(place, Some(object.clone())));
        self.0.changed.send_replace(());
    }

    /// The API's address.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// The report at `now`.
    pub fn report(&self, now: SystemTime) -> Report {
        let records: Vec<_> = lock(&self.0.records).values().cloned().collect();
        let mut sources: Vec<_> = records.iter().map(|record| record.status(now)).collect();
        let definitions =
            sources.iter().find(|source| source.kind == crate::kinds::DEFINITIONS.kind).cloned();
        let polled = definitions.as_ref().is_some_and(|definitions| definitions.state == State::Forbidden);
        let noticed = definitions.as_ref().is_some_and(|definitions| definitions.live);
        for source in sources.iter_mut().filter(|source| source.state == State::Missing) {
            source.live = noticed || polled;
        }
        let known = definitions.is_some_and(|definitions| definitions.synced);
        let definitions = if polled {
            "polled"
        } else if known {
            "followed"
        } else {
            "unknown"
        };
        // With polling in place of the watch of definitions, that watch does not count.
        let counts = |source: &&KindStatus| !polled || source.kind != crate::kinds::DEFINITIONS.kind;
        Report {
            server: self.0.server.clone(),
            definitions,
            synced: sources.iter().filter(counts).all(|source| source.synced),
            live: sources.iter().filter(counts).all(|source| source.live),
            sources,
        }
    }

    /// The sources that are not synced, each with the reason.
    pub fn unsynced(&self, now: SystemTime) -> Vec<String> {
        self.unsynced_of(now, |_| true)
    }

    /// The sources without which a mesh is not known, as [`Statuses::unsynced`]. Secrets are not among them: rules name
    /// them, and we may not be allowed to read them.
    pub fn unready(&self, now: SystemTime) -> Vec<String> {
        self.unsynced_of(now, |source| source.kind != crate::kinds::SECRET.kind)
    }

    fn unsynced_of(&self, now: SystemTime, counts: impl Fn(&KindStatus) -> bool) -> Vec<String> {
        let report = self.report(now);
        let fallback = |source: &KindStatus| {
            report.definitions == "polled" && source.kind == crate::kinds::DEFINITIONS.kind
        };
        let unsynced = report.sources.iter().filter(|source| !source.synced && counts(source));
        unsynced.filter(|source| !fallback(source)).map(KindStatus::problem).collect()
    }

    /// Notifies when `state`, `live` or `synced` of a source changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}

impl Report {
    /// This report with the sources of another one about the same API.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.synced &= other.synced;
        self.live &= other.live;
        self.sources.extend(other.sources);
        self
    }
}

impl KindStatus {
    /// `pods`, `destinationrules.networking.istio.io` or `secrets shop/tls`.
    pub fn name(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let object = self.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        format!("{}{group}{object}", self.resource)
    }

    /// Why it is not listed, for a person.
    pub(crate) fn problem(&self) -> String {
        match &self.last_error {
            Some(error) => format!("{} is not listed yet: {}", self.name(), error.message),
            None => format!("{} is not listed yet", self.name()),
        }
    }
}

/// The record of one task.
#[derive(Debug)]
pub(crate) struct Record {
    resource: &'static Resource,
    object: Option<Key>,
    content: Mutex<Content>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Content {
    served: Vec<String>,
    version: Option<&'static str>,
    /// Set while there is no task: missing or pending.
    absent: Option<State>,
    forbidden: bool,
    /// The health of the current task.
    health: Health,
    /// Lists, watches and bookmarks of earlier tasks.
    before: (u64, u64, u64),
    last_event: Option<SystemTime>,
    last_sync: Option<SystemTime>,
    last_error: Option<(SystemTime, String)>,
    restarts: u64,
}

impl Record {
    /// Changes the content, and notifies if state, liveness or sync changed.
    fn update(&self, change: impl FnOnce(&mut Content)) {
        let mut content = lock(&self.content);
        let before = (content.state(), content.health.live, content.is_synced());
        change(&mut content);
        let after = (content.state(), content.health.live, content.is_synced());
        drop(content);
        if before != after {
            self.changed.send_replace(());
        }
    }

    /// The served versions are not known.
    pub(crate) fn pending(&self) {
        self.update(|content| content.absent = Some(State::Pending));
    }

    /// The API does not serve the resource.
    pub(crate) fn missing(&self) {
        self.update(|content| {
            let before = content.totals();
            *content = Content {
                absent: Some(State::Missing),
                before,
                restarts: content.restarts,
                ..Content::default()
            };
        });
    }

    /// Records the version in use.
    pub(crate) fn set_version(&self, served: &[String], version: &'static str) {
        self.update(|content| {
            content.served = served.to_vec();
            content.version = Some(version);
            content.absent = None;
        });
    }

    /// Records the health of the task; `alive` after a successful answer or an event.
    pub(crate) fn record_health(&self, health: Health, alive: bool, now: SystemTime) {
        self.update(|content| {
            if health.lists > content.health.lists {
                content.last_sync = Some(now);
            }
            if alive {
                content.last_event = Some(now);
                content.forbidden = false;
            }
            // A new task starts with a list, but the objects of the task before are still known.
            let synced = health.synced || content.health.synced;
            let objects = if health.synced { health.objects } else { content.health.objects };
            content.health = Health { synced, objects, ..health };
        });
    }

    /// Records a failed request.
    pub(crate) fn failed(&self, message: String, forbidden: bool, now: SystemTime) {
        self.update(|content| {
            content.forbidden = forbidden;
            content.last_error = Some((now, message));
        });
    }

    /// Records that the task ended and is started again.
    pub(crate) fn restarts(&self, message: String, now: SystemTime) {
        self.update(|content| {
            content.restarts += 1;
            content.ends();
            content.last_error = Some((now, message));
        });
    }

    /// Records that another task replaces the current one.
    pub(crate) fn replaced(&self) {
        self.update(Content::ends);
    }

    /// Whether the last request was forbidden.
    pub(crate) fn is_forbidden(&self) -> bool {
        lock(&self.content).forbidden
    }

    /// The status at `now`.
    pub(crate) fn status(&self, now: SystemTime) -> KindStatus {
        let content = lock(&self.content);
        let (lists, watches, bookmarks) = content.totals();
        let object = self.object.as_ref().map(|key| format!("{}/{}", key.namespace, key.name));
        let age = content.last_event.map(|last| now.duration_since(last).unwrap_or_default());
        KindStatus {
            kind: self.resource.kind,
            group: self.resource.group,
            resource: self.resource.plural,
            object,
            served: content.served.clone(),
            version: content.version,
            state: content.state(),
            live: content.health.live,
            synced: content.is_synced(),
            objects: content.health.objects,
            last_event: content.last_event.map(rfc3339),
            last_sync: content.last_sync.map(rfc3339),
            age_seconds: age.map(|age| Duration::from_millis(millis(age)).as_secs_f64()),
            last_error: content
                .last_error
                .as_ref()
                .map(|(time, message)| LastError { time: rfc3339(*time), message: message.clone() }),
            lists,
            watches,
            bookmarks,
            restarts: content.restarts,
        }
    }
}

impl Content {
    fn state(&self) -> State {
        match (self.absent, self.health) {
            (Some(absent), _) => absent,
            (None, Health { live: true, .. }) => State::Watching,
            (None, _) if self.forbidden => State::Forbidden,
            (None, Health { listing: true, .. }) => State::Listing,
            (None, _) => State::Retrying,
        }
    }

    fn is_synced(&self) -> bool {
        self.health.synced || self.absent == Some(State::Missing)
    }

    fn totals(&self) -> (u64, u64, u64) {
        let ((lists, watches, bookmarks), health) = (self.before, &self.health);
        (lists + health.lists, watches + health.watches, bookmarks + health.bookmarks)
    }

    /// Ends the current task: totals, number of objects and sync stay.
    fn ends(&mut self) {
        self.before = self.totals();
        let Health { synced, objects, .. } = self.health;
        self.health = Health { synced, objects, ..Health::default() };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// To the second, in UTC.
fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
