//! Status conditions of policies: whether they are accepted, and whether they have an effect.

mod judge;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_kubernetes::{Api, Facts, Progress, Repeated, Resource};
use eastwest_model::{Diagnostic, ObjectRef};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};
use tracing::{debug, warn};

use self::work::{Attempts, Work};
use crate::{
    events::{Recorder, Refused, Regarding},
    request::{self, Body, Refusal},
    supervision::{supervise, while_leading},
};

/// How long nothing must change before statuses are written.
const QUIET: Duration = Duration::from_secs(1);
/// The longest wait for that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two writes.
const PACE: Duration = Duration::from_millis(50);
/// Writes before everything is compared again. New refusals wait for them alone.
const MOST: usize = 20;
/// How long a kind whose statuses may not be written is left alone.
const FORBIDDEN: Duration = Duration::from_secs(60);
/// The first pause after a write without an answer. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Everything that is known to be wrong, and which objects that covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Errors of the merge stage and warnings about the mesh, in any order. Those with a file as origin are ignored.
    pub found: Arc<Vec<Diagnostic>>,
    /// The objects that win over others that are in force elsewhere, by the names of the latter: `Kind/namespace/name`.
    pub overridden: Arc<BTreeMap<String, BTreeSet<ObjectRef>>>,
    /// The updates of the API that these findings cover. Statuses of later generations wait for later findings, so that
    /// findings must be sent again when there is progress, even if they stay.
    pub progress: Progress,
}

/// Keeps the conditions `Accepted` and `Effective` of all policies true, while this process leads, and records an Event
/// for each refusal.
///
/// `facts` are those of the source ([`eastwest_kubernetes::Source::facts`]). Nothing is written before there are
/// findings. The future ends when `leads` is closed.
pub fn write_statuses(
    api: &Api,
    facts: Facts,
    leads: watch::Receiver<bool>,
    findings: watch::Receiver<Option<Findings>>,
    recorder: Recorder,
) -> impl Future<Output = ()> + Send + 'static {
    let writer = Writer { client: api.client(), facts, findings, recorder, log: Arc::default() };
    async move {
        let run = || {
            let (writer, leads) = (writer.clone(), leads.clone());
            async move { while_leading(leads, || (), || writer.write()).await }
        };
        supervise("status conditions", run).await;
    }
}

#[derive(Clone)]
struct Writer {
    client: Client,
    facts: Facts,
    findings: watch::Receiver<Option<Findings>>,
    recorder: Recorder,
    log: Arc<Repeated>,
}

/// What was written so far, and what must wait.
#[derive(Default)]
struct State {
    attempts: Attempts,
    /// Kinds whose statuses may not be written, by plural name, until when.
    forbidden: BTreeMap<&'static str, Instant>,
    /// Writes without an answer in a row.
    failures: u32,
}

impl Writer {
    /// Writes while the future lives.
    async fn write(&self) {
        let (mut changes, mut findings) = (self.facts.changes(), self.findings.clone());
        let mut state = State::default();
        loop {
            changes.borrow_and_update();
            findings.mark_unchanged();
            let (again, unfinished) = self.pass(&mut state).await;
            if unfinished {
                continue;
            }
            let changed = async {
                tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    changed = findings.changed() => changed.is_ok(),
                }
            };
            tokio::select! {
                alive = changed => {
                    if !alive {
                        // Nothing new will come; what is left is still written.
                        sleep(LONGEST_PAUSE).await;
                    }
                }
                () = at(again) => {}
            }
            self.settle(&mut changes, &mut findings).await;
        }
    }

    /// Waits until nothing has changed for a while.
    async fn settle(
        &self,
        changes: &mut watch::Receiver<()>,
        findings: &mut watch::Receiver<Option<Findings>>,
    ) {
        let end = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + QUIET).min(end);
            tokio::select! {
                () = sleep_until(quiet.into()) => return,
                Ok(()) = changes.changed() => {}
                Ok(()) = findings.changed() => {}
            }
        }
    }

    /// Compares all statuses and writes those that differ, refusals first. Returns when the next pass is due if nothing
    /// changes, and whether more is to be written at once.
    async fn pass(&self, state: &mut State) -> (Option<Instant>, bool) {
        let Some(findings) = self.findings.borrow().clone() else { return (None, false) };
        let (work, mut again) = self.work(state, &findings);
        for work in work.iter().take(MOST) {
            if state.forbidden.contains_key(work.resource.plural) {
                continue;
            }
            sleep(PACE).await;
            let result = self.put(work).await;
            again = earlier(again, self.ended(state, work, result));
            if state.failures > 0 {
                return (again, false);
            }
        }
        (again, work.len() > MOST)
    }

    /// The statuses to write now, and when there may be others.
    fn work(&self, state: &mut State, findings: &Findings) -> (Vec<Work>, Option<Instant>) {
        let now = Instant::now();
        state.forbidden.retain(|_, until| *until > now);
        let mut again = state.forbidden.values().min().copied();
        let forbidden = |resource: &Resource| state.forbidden.contains_key(resource.plural);
        let mut work = self.facts.read(|all| work::all(all, findings, forbidden, &timestamp()));
        state.attempts.retain(&work);
        work.retain(|work| {
            let waits = state.attempts.due(work).filter(|due| *due > now);
            again = earlier(again, waits);
            waits.is_none()
        });
        (work, again)
    }

    /// Notes what became of a write. Returns when it must be repeated.
    fn ended(&self, state: &mut State, work: &Work, result: Result<(), Refusal>) -> Option<Instant> {
        let now = Instant::now();
        let object = work.name();
        match result {
            Ok(()) => {
                state.failures = 0;
                state.attempts.made(work, now);
                self.rival(state, work, None);
                None
            }
            Err(refusal) if refusal.is_forbidden() && !refusal.is_terminating() => {
                self.forbidden(work, &refusal);
                state.forbidden.insert(work.resource.plural, now + FORBIDDEN);
                Some(now + FORBIDDEN)
            }
            Err(refusal) if refusal.is_final() => {
                debug!(object, error = refusal.message, "a status is not taken");
                state.attempts.made(work, now);
                self.rival(state, work, Some(&refusal));
                state.attempts.due(work)
            }
            Err(refusal) => {
                debug!(object, error = refusal.message, "a status is not written");
                state.failures += 1;
                let pause = FIRST_PAUSE * 2_u32.pow(state.failures.min(16) - 1);
                Some(now + pause.min(LONGEST_PAUSE))
            }
        }
    }

    /// Records the refusal and writes the status of one object.
    async fn put(&self, work: &Work) -> Result<(), Refusal> {
        if let Some(note) = &work.refused {
            let regarding = Regarding {
                api_version: work.api_version(),
                kind: work.resource.kind.to_owned(),
                namespace: work.key.namespace.to_string(),
                name: work.key.name.to_string(),
                uid: work.uid.to_string(),
                generation: work.generation,
            };
            let refused = Refused { regarding, action: "Accept", reason: "Refused", note: note.clone() };
            if let Err(error) = self.recorder.refused(&refused).await {
                debug!(object = work.name(), %error, "a refusal has no Event");
            }
        }
        let conditions = json!(work.conditions);
        match self.patch(work, &work.version, &conditions).await {
            Err(refusal) if refusal.is_conflict() => self.put_again(work).await,
            result => result,
        }
    }

    /// Reads an object that somebody changed meanwhile, and writes its status if it is still the same generation.
    async fn put_again(&self, work: &Work) -> Result<(), Refusal> {
        let found = request::send(&self.client, Method::GET, &work.path(), Body::None).await?;
        let metadata = &found["metadata"];
        if metadata["uid"] != *work.uid || metadata["generation"] != work.generation {
            // The watch will tell, and the next pass compares again.
            return Ok(());
        }
        let conditions =
            judge::merged(&found["status"]["conditions"], &work.wanted, work.generation, &timestamp());
        let Some(conditions) = conditions else { return Ok(()) };
        let version = metadata["resourceVersion"].as_str().unwrap_or_default();
        match self.patch(work, version, &json!(conditions)).await {
            Err(refusal) if refusal.is_conflict() => Ok(()),
            result => result,
        }
    }

    /// Replaces the conditions, if the object has this version. Other fields of the status stay.
    async fn patch(&self, work: &Work, version: &str, conditions: &Value) -> Result<(), Refusal> {
        let fields = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
        let path = format!("{}/status?fieldManager={}", work.path(), request::MANAGER);
        request::send(&self.client, Method::PATCH, &path, Body::Merge(&fields)).await.map(drop)
    }

    fn forbidden(&self, work: &Work, refusal: &Refusal) {
        let Resource { group, plural, .. } = work.resource;
        if self.log.is_due(plural, Instant::now()) {
            let error = format!(
                "{}; add to the ClusterRole: apiGroups: [{group:?}], resources: [\"{plural}/status\"], verbs: [patch]",
                refusal.message
            );
            warn!(error, "statuses of a kind are not written");
        }
    }

    /// Tells of an object whose status does not stay, or is not taken.
    fn rival(&self, state: &State, work: &Work, refusal: Option<&Refusal>) {
        let Some(delay) = state.attempts.delay(work) else { return };
        let object = work.name();
        if !self.log.is_due(&object, Instant::now()) {
            return;
        }
        let (seconds, error) = (delay.as_secs(), refusal.map(|refusal| &*refusal.message));
        warn!(
            object,
            seconds,
            error,
            "the conditions of an object do not stay as written; they are written again later"
        );
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Now, to the second.
fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}
