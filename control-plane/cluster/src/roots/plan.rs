//! Which namespaces need the ConfigMap with the roots written, by what the API has. Pure: the clock is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use eastwest_kubernetes::{Fact, Key, KindFacts};
use serde_json::{Value, json};

use crate::{contention::Contention, request::Refusal};

/// The ConfigMap.
pub(super) const NAME: &str = "istio-ca-root-cert";
/// Its key.
const FIELD: &str = "root-cert.pem";
/// Its label.
const LABEL: (&str, &str) = ("istio.io/config", "true");

/// How long the watch may take to show a write.
const LAG: Duration = Duration::from_secs(5);
/// The first pause after a failed write. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after a failed write.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The fields of the ConfigMap that are ours.
pub(super) fn config_map(namespace: &str, roots: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace, "labels": {(LABEL.0): LABEL.1}},
        "data": {(FIELD): roots}})
}

/// Whether the ConfigMap has the roots and the label.
fn is_right(fact: &Fact, roots: &str) -> bool {
    let [labels, data] = &*fact.fields else { return false };
    !fact.ending && labels[LABEL.0] == LABEL.1 && data[FIELD] == roots
}

/// What is known of the writes to each namespace.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The roots of the last step, and how often they differed from those of the step before.
    roots: String,
    edition: u64,
    namespaces: BTreeMap<Box<str>, Standing>,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Write to these namespaces. They count as being written until [`Plan::written`].
    pub(super) write: Vec<Box<str>>,
    /// When the next step is due, whatever happens until then.
    pub(super) wake: Option<Instant>,
    /// The number of namespaces.
    pub(super) namespaces: usize,
    /// Of these, those without the roots.
    pub(super) missing: usize,
    /// Of these, those that refuse them.
    pub(super) refused: usize,
}

#[derive(Debug, Default)]
struct Standing {
    /// A write is under way.
    writing: bool,
    /// The last write that succeeded.
    written: Option<Written>,
    contention: Contention,
    /// Failures since the last write that succeeded.
    failures: u32,
    not_before: Option<Instant>,
    refused: bool,
    problem: Option<String>,
}

#[derive(Debug)]
struct Written {
    /// The version of the ConfigMap that the write came to.
    version: u64,
    edition: u64,
    at: Instant,
}

impl Plan {
    /// Compares what the API has with what it should have.
    pub(super) fn step(
        &mut self,
        namespaces: &KindFacts,
        config_maps: &KindFacts,
        roots: &str,
        now: Instant,
    ) -> Step {
        if self.roots != roots {
            self.edition += 1;
            self.roots = roots.to_owned();
            self.namespaces.values_mut().for_each(|standing| standing.contention = Contention::default());
        }
        let lives = |name: &str| {
            let key = Key { namespace: "".into(), name: name.into() };
            namespaces.objects.get(&key).is_some_and(|fact| !fact.ending)
        };
        self.namespaces.retain(|name, _| lives(name));
        let mut step = Step::default();
        for (key, _) in namespaces.objects.iter().filter(|(_, fact)| !fact.ending) {
            step.namespaces += 1;
            let name = Key { namespace: key.name.clone(), name: NAME.into() };
            let fact = config_maps.objects.get(&name);
            let standing = self.namespaces.entry(key.name.clone()).or_default();
            if fact.is_some_and(|fact| is_right(fact, roots)) {
                standing.settle();
                continue;
            }
            step.missing += 1;
            step.refused += usize::from(standing.refused);
            if standing.writing {
                continue;
            }
            match standing.due(config_maps.newest, self.edition).filter(|due| *due > now) {
                Some(due) => step.wake = Some(step.wake.map_or(due, |wake| wake.min(due))),
                None => {
                    standing.writing = true;
                    step.write.push(key.name.clone());
                }
            }
        }
        step
    }

    /// Notes the end of a write: the version that it came to, or the refusal.
    pub(super) fn written(&mut self, namespace: &str, result: Result<String, Refusal>, now: Instant) {
        let edition = self.edition;
        let Some(standing) = self.namespaces.get_mut(namespace) else { return };
        standing.writing = false;
        let refusal = match result {
            Ok(version) => {
                standing.contention.wrote(now);
                let written =
                    Some(Written { version: version.parse().unwrap_or_default(), edition, at: now });
                *standing = Standing { written, contention: standing.contention, ..Standing::default() };
                return;
            }
            Err(refusal) => refusal,
        };
        standing.failures += 1;
        standing.written = None;
        // Its end will be told.
        let ends = refusal.is_missing() || refusal.is_terminating();
        standing.refused = ends || refusal.is_final();
        standing.problem = (!ends).then(|| problem(namespace, &refusal));
        let doubled = FIRST_PAUSE * 2_u32.pow(standing.failures.min(16) - 1);
        let pause = if standing.refused { REFUSED_PAUSE } else { doubled.min(LONGEST_PAUSE) };
        standing.not_before = Some(now + pause);
    }

    /// What is wrong now: namespaces that cannot be written, and other writers.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&str, String)> {
        self.namespaces.iter().filter_map(|(name, standing)| {
            let rival = || standing.contention.delay().map(|delay| rival(name, delay));
            Some((&**name, standing.problem.clone().or_else(rival)?))
        })
    }
}

fn problem(namespace: &str, refusal: &Refusal) -> String {
    let remedy = match refusal.code {
        403 if refusal.message.contains("cannot ") => {
            "; add to the ClusterRole: apiGroups: [\"\"], resources: [\"configmaps\"], resourceNames: \
             [\"istio-ca-root-cert\"], verbs: [create, patch]"
        }
        422 => "; if the ConfigMap is immutable, delete it",
        _ => "",
    };
    format!("cannot write ConfigMap {namespace}/{NAME}: {}{remedy}", refusal.message)
}

fn rival(namespace: &str, delay: Duration) -> String {
    format!(
        "another controller changes ConfigMap {namespace}/{NAME} as well, perhaps istiod; it is put back after {} s: \
         let only one of them write it",
        delay.as_secs()
    )
}

impl Standing {
    /// The ConfigMap is as it should be.
    fn settle(&mut self) {
        let Self { writing, contention, .. } = *self;
        *self = Self { writing, contention, ..Self::default() };
    }

    /// When to write the ConfigMap; `None`: at once. `newest` is the highest version that the watch has told.
    fn due(&self, newest: u64, edition: u64) -> Option<Instant> {
        let written = self.written.as_ref().filter(|written| written.edition == edition);
        let lag = written.filter(|written| newest < written.version);
        lag.map(|written| written.at + LAG).max(self.not_before).max(self.contention.due())
    }
}

#[cfg(test)]
mod tests;
