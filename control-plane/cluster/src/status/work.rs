//! Which statuses differ from what they should be. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use eastwest_kubernetes::{AllFacts, Fact, Key, RESOURCES, Resource};
use eastwest_model::{Diagnostic, ObjectRef};
use serde_json::Value;

use super::{
    Findings,
    judge::{self, Condition},
};
use crate::contention::Contention;

/// A status to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) resource: &'static Resource,
    /// The version of the API in use.
    pub(super) served: &'static str,
    pub(super) key: Key,
    pub(super) uid: Box<str>,
    pub(super) generation: i64,
    /// The resource version that the conditions belong to.
    pub(super) version: Box<str>,
    /// Our conditions.
    pub(super) wanted: Vec<Condition>,
    /// All conditions as they should be.
    pub(super) conditions: Vec<Value>,
    /// What is refused, if the status does not say so yet.
    pub(super) refused: Option<String>,
}

impl Work {
    /// `DestinationRule/shop/reviews`.
    pub(super) fn name(&self) -> String {
        name(self.resource, &self.key)
    }

    /// `networking.istio.io/v1`.
    pub(super) fn api_version(&self) -> String {
        format!("{}/{}", self.resource.group, self.served)
    }

    /// Whether it tells that the object is refused.
    fn is_refusal(&self) -> bool {
        self.wanted.iter().any(|one| one.reason == "Invalid")
    }

    /// The path of the object.
    pub(super) fn path(&self) -> String {
        let Key { namespace, name } = &self.key;
        format!("/apis/{}/namespaces/{namespace}/{}/{name}", self.api_version(), self.resource.plural)
    }
}

fn name(resource: &Resource, key: &Key) -> String {
    format!("{}/{}/{}", resource.kind, key.namespace, key.name)
}

/// All statuses that differ, except those of `forbidden` resources and of objects that the findings do not cover. Those
/// of refused objects come first.
pub(super) fn all(
    facts: &AllFacts,
    findings: &Findings,
    forbidden: impl Fn(&Resource) -> bool,
    now: &str,
) -> Vec<Work> {
    let by_object = by_object(&findings.found);
    let mut all = Vec::new();
    for resource in RESOURCES.iter().filter(|one| one.custom && one.noted.is_some() && !forbidden(one)) {
        let Some(kind) = facts.of(resource) else { continue };
        for (key, fact) in &kind.objects {
            if fact.ending || !findings.progress.covers(resource, fact) {
                continue;
            }
            let found = by_object.get(name(resource, key).as_str()).map(Vec::as_slice).unwrap_or_default();
            let overridden = findings.overridden.get(&name(resource, key));
            all.extend(one((resource, kind.version), key, fact, (found, overridden), now));
        }
    }
    refusals_first(&mut all);
    all
}

fn refusals_first(all: &mut [Work]) {
    all.sort_by_key(|work| !work.is_refusal());
}

/// The findings about objects of the API. An object of a file may have the same name.
fn by_object(found: &[Diagnostic]) -> BTreeMap<&str, Vec<&Diagnostic>> {
    let mut by_object: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in found.iter().filter(|one| one.origin.file.is_none()) {
        by_object.entry(&*one.object).or_default().push(one);
    }
    by_object
}

/// The status of one object, if it differs.
fn one(
    (resource, served): (&'static Resource, &'static str),
    key: &Key,
    fact: &Fact,
    (findings, overridden): (&[&Diagnostic], Option<&BTreeSet<ObjectRef>>),
    now: &str,
) -> Option<Work> {
    let known = fact.fields.first()?;
    let wanted = judge::judge(findings, overridden, resource.parsed().is_some());
    let conditions = judge::merged(known, &wanted, fact.generation, now)?;
    let invalid = wanted.iter().find(|one| one.reason == "Invalid");
    let refused = invalid.filter(|one| !judge::shows(known, one, fact.generation));
    Some(Work {
        resource,
        served,
        key: key.clone(),
        uid: fact.uid.clone(),
        generation: fact.generation,
        version: fact.version.clone(),
        refused: refused.map(|one| one.message.clone()),
        wanted,
        conditions,
    })
}

/// What was written to objects that still differ, so that two writers of one status do not take turns without end.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<String, Attempt>);

#[derive(Debug)]
struct Attempt {
    uid: Box<str>,
    generation: i64,
    wanted: Vec<Condition>,
    contention: Contention,
}

impl Attempt {
    fn is_of(&self, work: &Work) -> bool {
        (&self.uid, self.generation, &self.wanted) == (&work.uid, work.generation, &work.wanted)
    }
}

/// How many attempts are remembered, besides those of objects that differ.
const REMEMBERED: usize = 1000;

impl Attempts {
    /// Forgets most of those whose objects are as they should be.
    pub(super) fn retain(&mut self, work: &[Work]) {
        if self.0.len() > REMEMBERED {
            let differing: BTreeSet<String> = work.iter().map(Work::name).collect();
            self.0.retain(|name, _| differing.contains(name));
        }
    }

    /// When the status may be written; `None`: at once.
    pub(super) fn due(&self, work: &Work) -> Option<Instant> {
        self.0.get(&work.name()).filter(|attempt| attempt.is_of(work))?.contention.due()
    }

    /// Notes an attempt.
    pub(super) fn made(&mut self, work: &Work, now: Instant) {
        let known = self.0.remove(&work.name()).filter(|attempt| attempt.is_of(work));
        let mut contention = known.map(|attempt| attempt.contention).unwrap_or_default();
        contention.wrote(now);
        let Work { uid, generation, wanted, .. } = work.clone();
        self.0.insert(work.name(), Attempt { uid, generation, wanted, contention });
    }

    /// By how much the next attempt is delayed.
    pub(super) fn delay(&self, work: &Work) -> Option<Duration> {
        self.0.get(&work.name())?.contention.delay()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eastwest_model::{Origin, Severity};
    use serde_json::json;

    use super::*;

    fn rules() -> &'static Resource {
        RESOURCES.iter().find(|one| one.kind == "DestinationRule").unwrap()
    }

    fn fact(conditions: Value) -> Fact {
        let fields: Arc<[Value]> = [conditions].into();
        Fact { uid: "u".into(), generation: 2, version: "7".into(), ending: false, fields, since: 1 }
    }

    fn error(file: Option<&str>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            object: "DestinationRule/shop/a".to_owned(),
            origin: Origin { file: file.map(Into::into), line: None },
            field: "spec.host".to_owned(),
            message: "is missing".to_owned(),
            beaten_by: None,
            effect: None,
        }
    }

    fn key() -> Key {
        Key { namespace: "shop".into(), name: "a".into() }
    }

    fn work(conditions: Value, found: &[&Diagnostic]) -> Option<Work> {
        one((rules(), "v1beta1"), &key(), &fact(conditions), (found, None), "2026-03-01T08:00:00Z")
    }

    #[test]
    fn a_refusal_is_told_once_for_each_generation() {
        let error = error(None);
        let first = work(Value::Null, &[&error]).unwrap();
        assert_eq!(first.refused.as_deref(), Some("spec.host: is missing"));
        assert_eq!(first.path(), "/apis/networking.istio.io/v1beta1/namespaces/shop/destinationrules/a");
        assert_eq!(work(json!(first.conditions), &[&error]), None, "it is written");
        // Somebody removed the other condition: no second Event.
        let partly = work(json!([first.conditions[0]]), &[&error]).unwrap();
        assert_eq!((partly.refused, partly.conditions), (None, first.conditions));
        assert_eq!(work(Value::Null, &[]).unwrap().refused, None);
    }

    /// In a flood of other statuses, a refusal is told at once.
    #[test]
    fn refusals_come_before_all_others() {
        let error = error(None);
        let named = |name: &str, found: &[&Diagnostic]| {
            let key = Key { name: name.into(), ..key() };
            Work { key, ..work(Value::Null, found).unwrap() }
        };
        let mut all = vec![named("a", &[]), named("b", &[&error]), named("c", &[]), named("d", &[&error])];
        refusals_first(&mut all);
        assert_eq!(all.iter().map(|work| &*work.key.name).collect::<Vec<_>>(), ["b", "d", "a", "c"]);
    }

    #[test]
    fn findings_about_files_are_no_findings_about_the_api() {
        let found = [error(Some("a.yaml")), error(None)];
        assert_eq!(by_object(&found)["DestinationRule/shop/a"], [&found[1]]);
    }

    #[test]
    fn a_status_that_does_not_stay_is_written_ever_later() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let accepted = work(Value::Null, &[]).unwrap();
        for _ in 0..4 {
            assert!(attempts.due(&accepted).is_none_or(|due| due <= now));
            attempts.made(&accepted, now);
            if attempts.delay(&accepted).is_some() {
                break;
            }
        }
        assert!(attempts.due(&accepted).unwrap() > now);
        let error = error(None);
        let refused = work(Value::Null, &[&error]).unwrap();
        assert_eq!(attempts.due(&refused), None, "another status does not wait");
    }
}
