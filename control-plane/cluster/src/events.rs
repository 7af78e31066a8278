//! Events (`events.k8s.io/v1`) about refusals.
//!
//! The name of an Event is made of the object, its uid and generation, and the message. So the same refusal is one Event,
//! whoever writes it and however often.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use eastwest_kubernetes::{Api, Repeated};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use thiserror::Error;
use time::OffsetDateTime;
use tracing::warn;

use crate::{
    micro_time::micro_time,
    request::{self, Body, Refusal, shortened},
};

/// The controller in all Events.
const CONTROLLER: &str = "eastwest.dev/control-plane";
/// The longest note, in bytes; a limit of the API.
const LONGEST_NOTE: usize = 1024;
/// The longest name of the object within the name of an Event.
const LONGEST_NAME: usize = 230;
/// Events that may be written at once.
const BURST: u32 = 100;
/// The time in which one more may be written.
const REFILL: Duration = Duration::from_millis(50);
/// How many Events are remembered as written.
const REMEMBERED: usize = 4096;

/// The object of an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regarding {
    /// `v1`, `security.istio.io/v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// The namespace; empty for an object outside of namespaces.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: String,
    /// `metadata.generation`; 0 if it has none.
    pub generation: i64,
}

impl Regarding {
    /// A Pod.
    pub fn pod(namespace: &str, name: &str, uid: &str) -> Self {
        let text = str::to_owned;
        let (api_version, kind) = (text("v1"), text("Pod"));
        Self {
            api_version,
            kind,
            namespace: text(namespace),
            name: text(name),
            uid: text(uid),
            generation: 0,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it is about.
    pub regarding: Regarding,
    /// What was refused: `Accept` a policy, `IssueCertificate`.
    pub action: &'static str,
    /// The reason in UpperCamelCase: `Refused`.
    pub reason: &'static str,
    /// What is wrong, with field and remedy. The API takes 1024 bytes; longer texts are cut.
    pub note: String,
}

/// An Event that was not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// Too many at once. The refusal may be recorded again later.
    #[error("too many Events")]
    TooMany,
    /// The API did not take it.
    #[error("the API does not take an Event: {0}")]
    Api(String),
}

/// Writes Events. A clone is another handle with the same memory and rate: 100 at once, then 20 a second.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    client: Client,
    /// The name of this process.
    identity: String,
    memory: Mutex<Memory>,
    log: Repeated,
}

impl Recorder {
    /// A recorder of this API. `identity` names this process, such as its pod.
    pub fn new(api: &Api, identity: &str) -> Self {
        let (client, log) = (api.client(), Repeated::default());
        let memory = Mutex::new(Memory::new(Instant::now()));
        let identity = shortened(identity.to_owned(), 128);
        Self(Arc::new(Inner { client, identity, memory, log }))
    }

    /// Writes an Event of type Warning, unless there is one about the same refusal.
    ///
    /// # Errors
    /// Too many Events, or the API does not take it. A missing RBAC rule is also in the log, once a minute.
    pub async fn refused(&self, refused: &Refused) -> Result<(), EventError> {
        let name = name(refused);
        let place = format!("{}/{name}", refused.regarding.namespace);
        let memory = || self.0.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory().knows(&place) {
            return Ok(());
        }
        if !memory().take(Instant::now()) {
            return Err(EventError::TooMany);
        }
        let event = event(&name, refused, &self.0.identity, OffsetDateTime::now_utc());
        let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        match request::send(&self.0.client, Method::POST, &path, Body::Object(&event)).await {
            Ok(_) => {}
            // It is there already, or its namespace ends.
            Err(refusal) if refusal.is_conflict() || refusal.is_missing() || refusal.is_terminating() => {}
            Err(refusal) => return Err(self.failed(&refusal)),
        }
        memory().remember(place);
        Ok(())
    }

    fn failed(&self, refusal: &Refusal) -> EventError {
        let remedy = if refusal.is_forbidden() {
            "; add to the ClusterRole: apiGroups: [\"events.k8s.io\"], resources: [\"events\"], verbs: [create]"
        } else {
            ""
        };
        let error = format!("{}{remedy}", refusal.message);
        if self.0.log.is_due("events", Instant::now()) {
            warn!(error, "an Event is not written");
        }
        EventError::Api(error)
    }
}

/// The name: that of the object, and a hash of everything that tells refusals apart.
fn name(refused: &Refused) -> String {
    let Regarding { kind, namespace, name, uid, generation, .. } = &refused.regarding;
    let parts = [kind, namespace, name, uid, &generation.to_string(), refused.reason, &refused.note];
    // FNV-1a: the same in every process and version.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let end = name.floor_char_boundary(LONGEST_NAME);
    format!("{}.{hash:016x}", name[..end].trim_end_matches(['.', '-']))
}

fn event(name: &str, refused: &Refused, identity: &str, now: OffsetDateTime) -> Value {
    let Refused { regarding, action, reason, note } = refused;
    // Events about objects outside of namespaces lie there.
    let namespace = if regarding.namespace.is_empty() { "default" } else { &regarding.namespace };
    let mut about = json!({"apiVersion": regarding.api_version, "kind": regarding.kind, "name": regarding.name,
        "uid": regarding.uid});
    if !regarding.namespace.is_empty() {
        about["namespace"] = json!(regarding.namespace);
    }
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": micro_time(now),
        "reportingController": CONTROLLER, "reportingInstance": identity,
        "action": action, "reason": reason, "type": "Warning", "regarding": about,
        "note": shortened(note.clone(), LONGEST_NOTE)})
}

/// What was written, and how much more may be.
struct Memory {
    written: BTreeSet<String>,
    order: VecDeque<String>,
    left: u32,
    filled: Instant,
}

impl Memory {
    fn new(now: Instant) -> Self {
        Self { written: BTreeSet::new(), order: VecDeque::new(), left: BURST, filled: now }
    }

    fn knows(&self, event: &str) -> bool {
        self.written.contains(event)
    }

    fn remember(&mut self, event: String) {
        if self.written.insert(event.clone()) {
            self.order.push_back(event);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.written.remove(&oldest);
        }
    }

    /// Whether one more may be written now.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_millis() / REFILL.as_millis();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            self.left = self.left.saturating_add(passed).min(BURST);
            self.filled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(note: &str, generation: i64) -> Refused {
        let regarding = Regarding { generation, ..Regarding::pod("shop", "reviews-0", "uid-1") };
        Refused { regarding, action: "IssueCertificate", reason: "Refused", note: note.to_owned() }
    }

    #[test]
    fn an_event_is_named_by_object_generation_and_message() {
        let first = name(&refused("the account differs", 1));
        assert_eq!(first, name(&refused("the account differs", 1)));
        assert_ne!(first, name(&refused("the account differs", 2)));
        assert_ne!(first, name(&refused("the node differs", 1)));
        assert!(first.starts_with("reviews-0.") && first.len() == "reviews-0.".len() + 16, "{first}");
        let mut long = refused("x", 1);
        long.regarding.name = format!("{}.{}", "a".repeat(229), "b".repeat(23));
        assert!(name(&long).len() <= 253 && !name(&long).contains(".."), "{}", name(&long));
    }

    #[test]
    fn an_event_has_what_the_api_demands() {
        let now = OffsetDateTime::from_unix_timestamp(1_772_352_000).unwrap();
        let event = event("n", &refused(&"ü".repeat(2000), 1), "pod-1", now);
        assert_eq!(event["eventTime"], "2026-03-01T08:00:00.000000Z");
        assert_eq!(event["regarding"]["uid"], "uid-1");
        assert!(event["note"].as_str().unwrap().len() <= LONGEST_NOTE);
        let mut wide = refused("x", 1);
        wide.regarding.namespace = String::new();
        assert_eq!(super::event("n", &wide, "pod-1", now)["metadata"]["namespace"], "default");
    }

    #[test]
    fn events_are_bounded_and_remembered() {
        let start = Instant::now();
        let mut memory = Memory::new(start);
        assert_eq!((0..150).filter(|_| memory.take(start)).count(), 100);
        assert_eq!((0..150).filter(|_| memory.take(start + Duration::from_secs(1))).count(), 20);
        for number in 0..=REMEMBERED {
            memory.remember(number.to_string());
        }
        assert!(!memory.knows("0") && memory.knows("1") && memory.written.len() == REMEMBERED);
    }
}
