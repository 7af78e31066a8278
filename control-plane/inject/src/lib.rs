//! Sidecars for pods: who gets one, what its annotations ask for, and what the pod then is. Functions of their arguments.
//!
//! ```text
//! manifest → objects (where its Pod template is) → decision → annotations ─┐
//!                                           Options → template (default) ──┴→ pod (merged) → manifest
//! ```

mod annotations;
mod decision;
mod merge;
mod objects;
mod pod;
mod probes;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use decision::{Decision, Namespace};
pub use objects::{Outcome, process};

/// What is the same for all pods.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of the sidecar, with `eastwest` and `envoy` in its path.
    pub image: String,
    /// TLS address of the control plane, HOST:PORT.
    pub control_plane: String,
    /// Name of the cluster.
    pub cluster_id: String,
    /// The revision whose labels count here.
    pub revision: String,
    /// Whether the sidecar is an init container that keeps running, where its annotation says nothing.
    pub native_sidecar: bool,
    /// A partial Pod that is merged over the default template.
    pub template: Option<Value>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: "eastwest/proxy:latest".to_owned(),
            control_plane: "eastwest.istio-system.svc:15012".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            revision: "default".to_owned(),
            native_sidecar: true,
            template: None,
        }
    }
}

/// Why a pod cannot have its sidecar: the annotation or field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// For example `annotation sidecar.istio.io/proxyCPU`.
    pub place: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Labels or annotations.
type Texts = BTreeMap<String, String>;

/// The texts of a map, such as labels; what is no text is passed over.
fn texts(value: &Value) -> Texts {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
