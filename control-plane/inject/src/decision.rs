//! Who gets a sidecar, and what decided it. The labels are those by which an API server chooses the pods for Istio's
//! webhooks.

use serde_json::Value;

use crate::{Texts, texts};

/// The label and annotation of a pod.
pub(crate) const INJECT: &str = "sidecar.istio.io/inject";
/// The annotation that an injected pod has.
pub(crate) const STATUS: &str = "sidecar.istio.io/status";
/// The annotation that keeps what the user wrote of a container of the sidecar.
pub(crate) const OVERRIDES: &str = "proxy.istio.io/overrides";
/// The label of namespaces and pods for a revision.
pub(crate) const REVISION: &str = "istio.io/rev";
/// Labels of a namespace that switch injection on or off.
const SWITCHES: [&str; 2] = ["istio-injection", "eastwest.dev/injection"];
/// Namespaces whose pods never get a sidecar.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// The namespace of a pod.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; `None` where they are not known, which is taken for consent.
    pub labels: Option<Texts>,
}

/// Whether a pod gets a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it does.
    pub inject: bool,
    /// The label, annotation or field that decided.
    pub because: String,
}

impl Decision {
    fn yes(because: impl Into<String>) -> Self {
        Self { inject: true, because: because.into() }
    }

    fn no(because: impl Into<String>) -> Self {
        Self { inject: false, because: because.into() }
    }

    /// The decision for a Pod, or for the template of one.
    pub(crate) fn of(pod: &Value, namespace: &Namespace, revision: &str) -> Self {
        let (labels, annotations) =
            (texts(&pod["metadata"]["labels"]), texts(&pod["metadata"]["annotations"]));
        if SYSTEM.contains(&namespace.name.as_str()) {
            return Self::no(format!("namespace {}, which gets no sidecars", namespace.name));
        }
        if pod["spec"]["hostNetwork"] == true {
            return Self::no("field spec.hostNetwork: the network of the node is not redirected");
        }
        if annotations.contains_key(STATUS) {
            return Self::no(format!("annotation {STATUS}: it has a sidecar already"));
        }
        let own = own_word(&labels, &annotations);
        let consent = by_namespace(namespace, &labels, revision, own.as_ref());
        match own {
            Some(own) if consent.inject && !own.inject => own,
            Some(own) if consent.inject && namespace.labels.is_none() => own,
            _ => consent,
        }
    }
}

/// What the pod says of itself. The label goes before the annotation.
fn own_word(labels: &Texts, annotations: &Texts) -> Option<Decision> {
    let labelled = labels.get(INJECT).map(|value| ("label", value));
    let annotated = annotations.get(INJECT).map(|value| ("annotation", value));
    let (place, value) = labelled.or(annotated)?;
    let because = format!("{place} {INJECT}={value} of the pod");
    match value.to_lowercase().as_str() {
        "" => None,
        "true" | "yes" | "y" | "on" => Some(Decision::yes(because)),
        _ => Some(Decision::no(because)),
    }
}

fn by_namespace(namespace: &Namespace, pod: &Texts, revision: &str, own: Option<&Decision>) -> Decision {
    let Some(labels) = &namespace.labels else {
        return match pod.get(REVISION) {
            Some(other) if other != revision => {
                Decision::no(format!("label {REVISION}={other} of the pod: another revision"))
            }
            _ => Decision::yes("the command: nothing is known of the namespace, and the pod does not object"),
        };
    };
    let name = &namespace.name;
    if let Some((label, value)) = SWITCHES.iter().find_map(|label| Some((label, labels.get(*label)?))) {
        let because = format!("label {label}={value} of namespace {name}");
        return if value == "enabled" { Decision::yes(because) } else { Decision::no(because) };
    }
    for (labels, whose) in [(labels, format!("of namespace {name}")), (pod, "of the pod".to_owned())] {
        if let Some(value) = labels.get(REVISION) {
            let because = format!("label {REVISION}={value} {whose}");
            return match value == revision {
                true => Decision::yes(because),
                false => Decision::no(format!("{because}: this is revision {revision}")),
            };
        }
    }
    match (own, pod.contains_key(INJECT)) {
        (Some(own), true) => own.clone(),
        _ => Decision::no(format!(
            "namespace {name}, which has no label istio-injection=enabled; label the pod {INJECT}=true for it alone"
        )),
    }
}
