//! The task of one list and watch: runs the state machine with the clock and the connection.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{sync::mpsc, time::sleep_until};
use tracing::{debug, info, warn};

pub use super::stream::reason;
pub(crate) use super::stream::{Decode, Decoded, Target, get};
use super::{
    failure::{Cause, Failure},
    state::{Command, Delta, Event, Machine, Step, Timing},
    stream::Connection,
};
use crate::{
    decode::Key,
    facts::{Facts, Noted},
    kinds::Resource,
    log::Repeated,
    status::Record,
};

/// What all tasks share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) server: Arc<str>,
    pub(crate) timing: Timing,
    pub(crate) log: Arc<Repeated>,
    pub(crate) facts: Facts,
}

/// A change of one resource, or of one object that is watched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update<T> {
    /// The resource.
    pub resource: &'static Resource,
    /// The object, if it is watched by name. Then a resync concerns this object alone.
    pub object: Option<Key>,
    /// The change.
    pub delta: Delta<T>,
    /// The revision of the [`Facts`] of the resource; 0 if it has none.
    pub revision: u64,
}

impl Target {
    /// Notes the facts of a change and returns the update for readers.
    fn update<T>(&self, delta: Delta<Decoded<T>>, facts: &Facts) -> Update<T> {
        let Self { resource, version, object } = self;
        let split =
            |key: &Key, decoded: Decoded<T>| (decoded.object, decoded.fact.map(|fact| (key.clone(), fact)));
        let (delta, noted) = match delta {
            Delta::Resync(all) => {
                let mut listed = Vec::new();
                let all = all.into_iter().map(|(key, decoded)| {
                    let (object, fact) = split(&key, decoded);
                    listed.extend(fact);
                    (key, object)
                });
                (Delta::Resync(all.collect()), Some(Noted::All(listed)))
            }
            Delta::Upsert(key, decoded) => {
                let (object, fact) = split(&key, decoded);
                (Delta::Upsert(key, object), fact.map(|(key, fact)| Noted::One(key, fact)))
            }
            Delta::Delete(key) => (Delta::Delete(key.clone()), Some(Noted::Gone(key))),
        };
        let noted = noted.filter(|_| resource.noted.is_some());
        let revision = noted.map_or(0, |noted| facts.note(resource, version, noted));
        Update { resource, object: object.clone(), delta, revision }
    }
}

/// The key of the warning that is common to all tasks.
const NO_ANSWER: &str = "the API does not answer";

/// Lists and watches `target` until `out` is closed.
pub(crate) async fn follow<T: Send + 'static>(
    shared: &Shared,
    target: &Target,
    decode: &Decode<T>,
    record: &Record,
    out: &mpsc::Sender<Update<T>>,
) {
    let seed = RandomState::new().build_hasher().finish();
    let (mut machine, mut step) = Machine::start(shared.timing.clone(), seed, Instant::now());
    let mut connection = Connection::Closed;
    let mut alive = false;
    loop {
        record.record_health(machine.health(), alive, SystemTime::now());
        let Step { delta, command, failure } = step;
        if let Some(failure) = failure {
            report(shared, target, record, &failure);
        } else if alive && shared.log.is_over(NO_ANSWER) {
            info!(server = &*shared.server, "the Kubernetes API answers again");
        }
        match command {
            Command::Keep => {}
            Command::Close => connection = Connection::Closed,
            Command::Send(request) => {
                debug!(resource = target.resource.name(), ?request, "asks the Kubernetes API");
                connection = Connection::open(&shared.client, target, &request, decode);
            }
        }
        if let Some(delta) = delta
            && out.send(target.update(delta, &shared.facts)).await.is_err()
        {
            return;
        }
        let event = tokio::select! {
            // Received events count even if the deadline passed before they were read.
            biased;
            event = connection.next(decode) => event,
            () = sleep_until(machine.deadline().into()) => Event::Timer,
        };
        alive = is_sign_of_life(&event);
        step = machine.step(event, Instant::now());
    }
}

fn is_sign_of_life<T>(event: &Event<T>) -> bool {
    !matches!(event, Event::Timer | Event::Failed(_) | Event::Ended)
}

/// Records a failure, and logs it once a minute.
fn report(shared: &Shared, target: &Target, record: &Record, failure: &Failure) {
    let resource = target.resource.name();
    let Failure { cause, message, .. } = failure;
    let forbidden = *cause == Cause::Forbidden;
    let shown = if forbidden { format!("{message}; {}", missing_rule(target)) } else { message.clone() };
    record.failed(shown.clone(), forbidden, SystemTime::now());
    let unreachable = matches!(cause, Cause::Unreachable | Cause::TimedOut);
    let key = if unreachable { NO_ANSWER } else { &resource };
    // Versions expire in normal operation.
    if *cause == Cause::Expired || !shared.log.is_due(key, Instant::now()) {
        debug!(resource, error = shown, "a watch failed");
    } else if unreachable {
        let server = &*shared.server;
        warn!(
            server,
            resource,
            error = shown,
            "the Kubernetes API does not answer; known objects stay in force"
        );
    } else {
        warn!(resource, error = shown, "cannot follow the Kubernetes API");
    }
}

/// The RBAC rule that is missing.
fn missing_rule(target: &Target) -> String {
    let Resource { group, plural, .. } = target.resource;
    let place = match target.object.as_ref().filter(|key| !key.is_everywhere()) {
        Some(key) => format!("a Role in namespace {}", key.namespace),
        None => "the ClusterRole".to_owned(),
    };
    format!("add to {place}: apiGroups: [{group:?}], resources: [{plural:?}], verbs: [get, list, watch]")
}
