//! Status conditions out of findings. Pure: the time is an argument.

use std::collections::BTreeSet;

use eastwest_model::{Diagnostic, Effect, ObjectRef, Severity};
use serde_json::{Value, json};

use crate::request::shortened;

const TRUE: &str = "True";
const FALSE: &str = "False";

/// The longest message, in bytes.
const LONGEST: usize = 1000;

/// What is added to a refusal if no version of the object is in force, as after a restart.
const NOTHING_LEFT: &str = "; no earlier version of it is known, so nothing of it is in force";

/// One of our conditions, without the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What the findings about one object say of it, the errors first; `overridden` are the objects that win for some
/// workloads or clients.
///
/// `is_read`: the parser knows the kind. Whether objects of other kinds are valid is unknown, and they have no effect.
pub(super) fn judge(
    findings: &[&Diagnostic],
    overridden: Option<&BTreeSet<ObjectRef>>,
    is_read: bool,
) -> Vec<Condition> {
    if !is_read {
        let unread = "eastwest does not read this kind of policy yet".to_owned();
        let accepted = Condition { kind: "Accepted", status: "Unknown", reason: "NotRead", message: unread };
        let message = "eastwest does not apply this kind of policy: it has no effect on the proxies that eastwest serves";
        return vec![accepted, effective("NoEffect", message.to_owned())];
    }
    let errors: Vec<_> = findings.iter().filter(|one| one.severity == Severity::Error).collect();
    if !errors.is_empty() {
        let messages = errors.iter().map(|one| match one.field.as_str() {
            "" => one.message.clone(),
            field => format!("{field}: {}", one.message),
        });
        let lacking = errors.iter().any(|one| one.effect == Some(Effect::None));
        let message = match lacking {
            true => shortened(joined(messages.collect()), LONGEST - NOTHING_LEFT.len()) + NOTHING_LEFT,
            false => joined(messages.collect()),
        };
        let refused = Condition { kind: "Accepted", status: FALSE, reason: "Invalid", message };
        return vec![refused, effective("NoEffect", "this generation is refused, see Accepted".to_owned())];
    }
    let accepted =
        Condition { kind: "Accepted", status: TRUE, reason: "Accepted", message: "is valid".to_owned() };
    vec![accepted, effect(findings, overridden)]
}

fn effect(findings: &[&Diagnostic], overridden: Option<&BTreeSet<ObjectRef>>) -> Condition {
    let of = |effect| findings.iter().filter(move |one| one.effect == Some(effect));
    let shadowed = of(Effect::Shadowed).map(|one| match &one.beaten_by {
        Some(winner) => format!("{winner} wins: {}", one.message),
        None => one.message.clone(),
    });
    let (reason, messages): (_, Vec<_>) = match shadowed.collect::<Vec<_>>() {
        none if none.is_empty() => ("NoEffect", of(Effect::None).map(|one| one.message.clone()).collect()),
        shadowed => ("Shadowed", shadowed),
    };
    if messages.is_empty() {
        let message = in_force(findings, overridden);
        return Condition { kind: "Effective", status: TRUE, reason: "Effective", message };
    }
    effective(reason, joined(messages))
}

/// The message of an object that is in force: who wins where it is not.
fn in_force(findings: &[&Diagnostic], overridden: Option<&BTreeSet<ObjectRef>>) -> String {
    let beaten = findings.iter().filter_map(|one| Some((one.beaten_by.as_ref()?, &one.message)));
    let (told, mut messages): (BTreeSet<_>, Vec<_>) =
        beaten.map(|(winner, message)| (winner, format!("{winner} wins: {message}"))).unzip();
    let others = overridden.into_iter().flatten().filter(|winner| !told.contains(winner));
    messages.extend(others.map(|winner| format!("{winner} wins for some workloads")));
    match messages.is_empty() {
        true => "is in force".to_owned(),
        false => joined([vec!["is in force, but not everywhere".to_owned()], messages].concat()),
    }
}

/// Something without effect.
fn effective(reason: &'static str, message: String) -> Condition {
    Condition { kind: "Effective", status: FALSE, reason, message }
}

/// The messages, as many as fit.
fn joined(messages: Vec<String>) -> String {
    let count = messages.len();
    let mut text = String::new();
    for (at, message) in messages.into_iter().enumerate() {
        if at > 0 && text.len() + message.len() > LONGEST {
            text.push_str(&format!("; and {} more", count - at));
            break;
        }
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(&message);
    }
    shortened(text, LONGEST)
}

/// The conditions that an object should have: those it has, with ours in their places. `None` if nothing differs.
///
/// Conditions of others stay. The time of a condition stays while its status does. `now` is in RFC 3339.
pub(super) fn merged(known: &Value, wanted: &[Condition], generation: i64, now: &str) -> Option<Vec<Value>> {
    let known = known.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<Value> = Vec::new();
    for one in known {
        let ours = wanted.iter().find(|condition| one["type"] == condition.kind);
        match ours {
            None => all.push(one.clone()),
            // One of each type is enough.
            Some(condition) if all.iter().all(|other| other["type"] != condition.kind) => {
                all.push(condition.over(one, generation, now));
            }
            Some(_) => {}
        }
    }
    for condition in wanted.iter().filter(|condition| known.iter().all(|one| one["type"] != condition.kind)) {
        all.push(condition.over(&Value::Null, generation, now));
    }
    (all != known).then_some(all)
}

/// Whether the status shows this condition of this generation already.
pub(super) fn shows(known: &Value, condition: &Condition, generation: i64) -> bool {
    let mut known = known.as_array().into_iter().flatten();
    known.any(|one| one["type"] == condition.kind && condition.says(one, generation))
}

impl Condition {
    /// Whether a condition of the API says the same of this generation.
    fn says(&self, known: &Value, generation: i64) -> bool {
        let observed = &known["observedGeneration"];
        // Istio's schema allows both.
        let observed = observed.as_i64().or_else(|| observed.as_str()?.parse().ok());
        known["status"] == self.status
            && known["reason"] == self.reason
            && known["message"] == self.message.as_str()
            && observed == Some(generation)
    }

    /// This condition in place of the known one, or that one itself if it says the same.
    fn over(&self, known: &Value, generation: i64, now: &str) -> Value {
        let since = known["lastTransitionTime"].as_str();
        if since.is_some() && self.says(known, generation) {
            return known.clone();
        }
        let since = since.filter(|_| known["status"] == self.status).unwrap_or(now);
        json!({"type": self.kind, "status": self.status, "reason": self.reason, "message": self.message,
            "observedGeneration": generation, "lastTransitionTime": since})
    }
}

#[cfg(test)]
mod tests;
