//! Manifests: which objects make pods, and where the template of these is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Decision, Mistake, Namespace, Options, Texts, pod, texts};

/// What became of one object.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `Deployment/shop/reviews`.
    pub object: String,
    /// Whether it got a sidecar, and what decided that; `None` for objects that make no pods.
    pub decision: Option<Decision>,
    /// What has no effect, with hints.
    pub warnings: Vec<String>,
    /// Why it could not get one; then the object is as it was.
    pub mistakes: Vec<Mistake>,
}

/// Gives the pods of these objects their sidecars, in place. Lists are gone through. Namespaces among the objects decide
/// by their labels; objects that name no namespace are in `namespace`.
pub fn process(objects: &mut [Value], namespace: &str, options: &Options) -> Vec<Outcome> {
    let mut known = BTreeMap::new();
    objects.iter().for_each(|object| note_namespaces(object, &mut known));
    let mut outcomes = Vec::new();
    for object in objects {
        visit(object, namespace, &known, options, &mut outcomes);
    }
    outcomes
}

fn note_namespaces(object: &Value, known: &mut BTreeMap<String, Texts>) {
    if object["kind"] == "Namespace"
        && let Some(name) = object["metadata"]["name"].as_str()
    {
        known.insert(name.to_owned(), texts(&object["metadata"]["labels"]));
    }
    items(object).for_each(|item| note_namespaces(item, known));
}

fn items(object: &Value) -> impl Iterator<Item = &Value> {
    object["items"].as_array().into_iter().flatten()
}

fn is_list(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && object["items"].is_array()
}

fn visit(
    object: &mut Value,
    namespace: &str,
    known: &BTreeMap<String, Texts>,
    options: &Options,
    outcomes: &mut Vec<Outcome>,
) {
    if is_list(object) {
        let item_kind = object["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
        for item in object["items"].as_array_mut().into_iter().flatten() {
            // Items of a typed list may lack their kind; it is needed here, and stays away there.
            let kind = item["kind"].as_str().map(str::to_owned).or_else(|| item_kind.clone());
            match is_list(item) {
                true => visit(item, namespace, known, options, outcomes),
                false => {
                    outcomes.extend(one(item, kind.as_deref().unwrap_or_default(), namespace, known, options))
                }
            }
        }
        return;
    }
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    outcomes.extend(one(object, &kind, namespace, known, options));
}

/// The path to the Pod template of a kind; empty for a Pod itself.
fn path(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some(&["spec", "template"])
        }
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

fn one(
    object: &mut Value,
    kind: &str,
    namespace: &str,
    known: &BTreeMap<String, Texts>,
    options: &Options,
) -> Option<Outcome> {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or(namespace).to_owned();
    let name =
        metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or("-").to_owned();
    let path = path(kind)?;
    let mut outcome = Outcome {
        object: format!("{kind}/{namespace}/{name}"),
        decision: None,
        warnings: Vec::new(),
        mistakes: Vec::new(),
    };
    let mut pod = object;
    for step in path {
        pod = match pod.get_mut(step) {
            Some(below) if below.is_object() => below,
            _ => {
                outcome.mistakes.push(Mistake {
                    place: format!("field {}", path.join(".")),
                    message: "is missing; it is the template of the pods".to_owned(),
                });
                return Some(outcome);
            }
        };
    }
    let labels = known.get(&namespace).cloned();
    let decision = Decision::of(pod, &Namespace { name: namespace, labels }, &options.revision);
    if decision.inject {
        let mut injected = pod.clone();
        match pod::inject(&mut injected, name.trim_end_matches('-'), options) {
            Ok(warnings) => {
                outcome.warnings = warnings;
                *pod = injected;
            }
            Err(mistakes) => outcome.mistakes = mistakes,
        }
    }
    outcome.decision = Some(decision);
    Some(outcome)
}
