//! What the API has of the objects that are written to, beside the updates for readers: identity, generation, and the
//! fields that a writer compares.
//!
//! Facts are noted before the update of the same object is delivered. Both carry a revision, so that a writer knows
//! whether a judgement covers the object as it is now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::{
    decode::{Key, Object},
    kinds::Resource,
};

/// What the API has of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.generation`; 0 if the resource has none.
    pub generation: i64,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// It is being deleted.
    pub ending: bool,
    /// The fields that [`Resource::noted`] names, in that order; null where one is missing.
    pub fields: Arc<[Value]>,
    /// The revision that brought this generation of the object.
    pub since: u64,
}

impl Fact {
    /// The facts of an object, if its resource has some.
    pub(crate) fn of(resource: &Resource, object: &Object) -> Option<Box<Self>> {
        let metadata = |field: &str| object.value.get("metadata")?.get(field);
        let fields = resource.noted?.iter();
        let fields = fields.map(|path| object.value.pointer(path).cloned().unwrap_or_default());
        Some(Box::new(Self {
            uid: metadata("uid").and_then(Value::as_str).unwrap_or_default().into(),
            generation: metadata("generation").and_then(Value::as_i64).unwrap_or_default(),
            version: object.version.as_str().into(),
            ending: metadata("deletionTimestamp").is_some(),
            fields: fields.collect(),
            since: 0,
        }))
    }
}

/// All objects of one resource.
#[derive(Debug, Clone, Default)]
pub struct KindFacts {
    /// The version of the API in use, `v1`; empty if the API does not serve the resource.
    pub version: &'static str,
    /// The objects.
    pub objects: BTreeMap<Key, Fact>,
    /// The highest resource version of an object that was noted, also if the object is gone since. A watch tells changes
    /// in the order of their versions, so a write that came to this version or a lower one has been told.
    pub newest: u64,
    /// Fields of the object noted last. Many objects have the same.
    recent: Arc<[Value]>,
}

/// The facts of all resources that have some. A clone is another handle.
#[derive(Debug, Clone, Default)]
pub struct Facts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    all: Mutex<AllFacts>,
    changed: watch::Sender<()>,
}

/// The facts of all resources at one moment.
#[derive(Debug, Default)]
pub struct AllFacts {
    revision: u64,
    by_resource: BTreeMap<(&'static str, &'static str), KindFacts>,
}

impl AllFacts {
    /// The objects of a resource; `None` until it has been listed.
    pub fn of(&self, resource: &Resource) -> Option<&KindFacts> {
        self.by_resource.get(&(resource.group, resource.plural))
    }
}

/// A change of the facts of a resource.
pub(crate) enum Noted {
    All(Vec<(Key, Box<Fact>)>),
    One(Key, Box<Fact>),
    Gone(Key),
}

impl Facts {
    /// Reads all of them. `read` must be short, and must not use the facts otherwise: the watches wait for it.
    pub fn read<T>(&self, read: impl FnOnce(&AllFacts) -> T) -> T {
        read(&lock(&self.0.all))
    }

    /// Notifies of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Notes a change of a resource that is read in `version`. Returns the revision.
    pub(crate) fn note(&self, resource: &'static Resource, version: &'static str, noted: Noted) -> u64 {
        let mut facts = lock(&self.0.all);
        facts.revision += 1;
        let revision = facts.revision;
        let kind = facts.by_resource.entry((resource.group, resource.plural)).or_default();
        kind.version = version;
        match noted {
            Noted::All(all) => {
                let mut before = std::mem::take(&mut kind.objects);
                for (key, fact) in all {
                    let known = before.remove(&key);
                    kind.insert(key, *fact, known, revision);
                }
            }
            Noted::One(key, fact) => {
                let known = kind.objects.remove(&key);
                kind.insert(key, *fact, known, revision);
            }
            Noted::Gone(key) => drop(kind.objects.remove(&key)),
        }
        drop(facts);
        self.0.changed.send_replace(());
        revision
    }
}

impl KindFacts {
    fn insert(&mut self, key: Key, mut fact: Fact, known: Option<Fact>, revision: u64) {
        let known = known.filter(|known| (&known.uid, known.generation) == (&fact.uid, fact.generation));
        fact.since = known.as_ref().map_or(revision, |known| known.since);
        let equal = known.map(|known| known.fields).filter(|fields| *fields == fact.fields);
        if let Some(fields) = equal.or_else(|| Some(self.recent.clone()).filter(|one| *one == fact.fields)) {
            fact.fields = fields;
        }
        self.recent = fact.fields.clone();
        self.newest = self.newest.max(fact.version.parse().unwrap_or_default());
        self.objects.insert(key, fact);
    }
}

/// How far the updates of each resource have been taken in by a reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress(BTreeMap<(&'static str, &'static str), u64>);

impl Progress {
    /// Takes in an update of a resource ([`Update::revision`](crate::Update::revision)).
    pub fn take(&mut self, resource: &'static Resource, revision: u64) {
        let known = self.0.entry((resource.group, resource.plural)).or_default();
        *known = revision.max(*known);
    }

    /// Whether the generation of the object has been taken in.
    pub fn covers(&self, resource: &Resource, fact: &Fact) -> bool {
        self.0.get(&(resource.group, resource.plural)).is_some_and(|revision| *revision >= fact.since)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::{OBSERVED_CONFIG_MAPS, RESOURCES};

    fn object(uid: &str, generation: i64, version: &str, status: &str) -> Object {
        let value = json!({"metadata": {"uid": uid, "generation": generation},
            "status": {"conditions": [{"type": "Accepted", "status": status}]}});
        Object { key: key("a"), version: version.to_owned(), value }
    }

    fn key(name: &str) -> Key {
        Key { namespace: "shop".into(), name: name.into() }
    }

    /// A status that somebody writes is no new generation: a judgement of the object still covers it.
    #[test]
    fn the_revision_of_an_object_is_that_of_its_generation() {
        let rules = RESOURCES.iter().find(|one| one.kind == "DestinationRule").unwrap();
        let facts = Facts::default();
        let note =
            |object: &Object| facts.note(rules, "v1", Noted::One(key("a"), Fact::of(rules, object).unwrap()));
        let since = || facts.read(|all| all.of(rules).unwrap().objects[&key("a")].since);
        assert!(facts.read(|all| all.of(rules).is_none()), "not listed");
        let first = note(&object("u", 1, "7", "True"));
        let mut progress = Progress::default();
        let covered = |progress: &Progress| {
            facts.read(|all| progress.covers(rules, &all.of(rules).unwrap().objects[&key("a")]))
        };
        assert!(!covered(&progress));
        progress.take(rules, first);
        note(&object("u", 1, "8", "False"));
        assert!(since() == first && covered(&progress), "only its status differs");
        let second = note(&object("u", 2, "9", "False"));
        assert!(since() == second && !covered(&progress), "another generation");
        progress.take(rules, second);
        let third = note(&object("v", 2, "10", "False"));
        assert!(since() == third && !covered(&progress), "another object of that name");
        facts.note(rules, "v1", Noted::Gone(key("a")));
        assert!(facts.read(|all| all.of(rules).unwrap().objects.is_empty()));
    }

    #[test]
    fn a_list_forgets_what_is_not_in_it_and_equal_fields_are_kept_once() {
        let facts = Facts::default();
        let fact = |version: &str| {
            let value = json!({"metadata": {"uid": version}, "data": {"root-cert.pem": "roots"}});
            let object = Object { key: key("a"), version: version.to_owned(), value };
            Fact::of(OBSERVED_CONFIG_MAPS, &object).unwrap()
        };
        let all = vec![(key("a"), fact("1")), (key("b"), fact("2")), (key("c"), fact("3"))];
        facts.note(OBSERVED_CONFIG_MAPS, "v1", Noted::All(all));
        facts.read(|all| {
            let all: Vec<_> = all.of(OBSERVED_CONFIG_MAPS).unwrap().objects.values().collect();
            assert!(all.len() == 3 && all.iter().all(|one| Arc::ptr_eq(&one.fields, &all[0].fields)));
            assert_eq!(all[0].fields[1]["root-cert.pem"], "roots");
        });
        facts.note(OBSERVED_CONFIG_MAPS, "v1", Noted::All(vec![(key("b"), fact("2"))]));
        facts.read(|all| assert_eq!(all.of(OBSERVED_CONFIG_MAPS).unwrap().objects.len(), 1));
        let pods = RESOURCES.iter().find(|one| one.kind == "Pod").unwrap();
        assert!(Fact::of(pods, &object("u", 1, "1", "True")).is_none(), "nothing is written to pods");
    }
}
