//! Documents that name no object here: kinds that Istio reads and we do not, files of other programs, slips.

use eastwest_model::{Group, edit_distance};
use serde_json::Value;

use super::READERS;
use crate::spelling;

/// A kind that Istio reads and that is not read here, with what it therefore does not do. A kind that becomes known
/// loses its line.
const NOT_READ: &[(&str, &str, &str)] = &[
    (NETWORKING, "VirtualService", "calls are routed as if it were not there"),
    (NETWORKING, "Gateway", "no gateway is configured by it"),
    (NETWORKING, "EnvoyFilter", "no configuration of Envoy is changed by it"),
    (NETWORKING, "ProxyConfig", "no proxy is configured by it"),
    ("telemetry.istio.io", "Telemetry", "no metric, log or trace is changed by it"),
    ("extensions.istio.io", "WasmPlugin", "no plugin is loaded by it"),
    ("extensions.istio.io", "TrafficExtension", "no extension is loaded by it"),
    ("install.istio.io", "IstioOperator", "its mesh configuration counts only in ConfigMap istio"),
    ("authentication.istio.io", "Policy", "Istio 1.6 dropped it for policies of security.istio.io"),
    ("authentication.istio.io", "MeshPolicy", "Istio 1.6 dropped it for policies of security.istio.io"),
    ("rbac.istio.io", "ServiceRole", "no call is allowed or denied by it"),
    ("rbac.istio.io", "ServiceRoleBinding", "no call is allowed or denied by it"),
    ("rbac.istio.io", "RbacConfig", "no call is allowed or denied by it"),
    ("rbac.istio.io", "ClusterRbacConfig", "no call is allowed or denied by it"),
    (GATEWAY_API, "Gateway", "no gateway is configured by it"),
    (GATEWAY_API, "HTTPRoute", "calls are routed as if it were not there"),
    (GATEWAY_API, "GRPCRoute", "calls are routed as if it were not there"),
    (GATEWAY_API, "TCPRoute", "calls are routed as if it were not there"),
    (GATEWAY_API, "TLSRoute", "calls are routed as if it were not there"),
    (GATEWAY_API, "BackendTLSPolicy", "no connection gets TLS by it"),
];

const NETWORKING: &str = Group::Networking.name();
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The most letters that a slip in the name of a kind or a group changes.
const SLIP: usize = 3;

/// What a kind without a reader comes to.
pub(super) enum Unread {
    /// It decides nothing here, and nobody expects that.
    Irrelevant,
    /// It is passed over, and somebody may expect that it does something: why it does not.
    PassedOver(String),
    /// Nobody knows it, in a group of which every kind is known.
    Unknown(String),
    /// It is certainly a slip: what is wrong with the field `kind`.
    Slip(String),
}

/// Judges a kind that no reader has.
pub(super) fn judge(group: &str, kind: &str) -> Unread {
    if let Some((.., instead)) = NOT_READ.iter().find(|(g, k, _)| (*g, *k) == (group, kind)) {
        return Unread::PassedOver(format!("is not in force: {kind} is not read here; {instead}"));
    }
    if !super::is_istio(group) {
        return match slip_of_kubernetes(group, kind) {
            Some(right) => Unread::Slip(format!(
                "there is no kind {kind:?} in {} (did you mean {right:?}?)",
                named(group)
            )),
            None => Unread::Irrelevant,
        };
    }
    let names: Vec<String> =
        READERS.iter().filter(|one| one.group() == group).map(|one| one.kind.to_string()).collect();
    let hint = spelling::nearest(kind, names.iter().map(String::as_str), SLIP);
    if hint.is_empty() {
        return Unread::Unknown(format!("is not in force: there is no kind {kind:?} in {group} here"));
    }
    Unread::Slip(format!("there is no kind {kind:?} in {group}{hint}"))
}

/// A group as messages name it.
fn named(group: &str) -> &str {
    if group == super::CORE { "the core group" } else { group }
}

/// The kind of Kubernetes that is certainly meant: the same in other letters, its plural, or a letter is missing or wrong in
/// a long name. There are more kinds than are known here, so anything else is passed over.
fn slip_of_kubernetes(group: &str, kind: &str) -> Option<String> {
    let letters = |text: &str| text.to_lowercase().chars().take(64).collect::<Vec<_>>();
    let written = letters(kind);
    let mut names = READERS.iter().filter(|one| one.group() == group).map(|one| one.kind.to_string());
    names.find(|name| {
        let name = letters(name);
        let is_plural =
            written.len() == name.len() + 1 && written.starts_with(&name) && written.ends_with(&['s']);
        written == name || is_plural || name.len() >= 6 && edit_distance(&written, &name) == 1
    })
}

/// Whether a group is certainly a slip for one of Istio: it is another one of Istio, none at all, or nearly the same.
/// Kinds of one name are in groups of other projects too.
pub(super) fn is_slip_of(group: &str, right: &str) -> bool {
    let letters = |text: &str| text.chars().take(64).collect::<Vec<_>>();
    super::is_istio(right)
        && (super::is_istio(group)
            || group == super::CORE
            || group.ends_with(".istio.io")
            || edit_distance(&letters(group), &letters(right)) <= SLIP)
}

/// Why a document without `kind` or `apiVersion` names no object: `Ok` if it was not meant to.
pub(super) fn no_object(value: &Value) -> Result<&'static str, &'static str> {
    let has = |key: &str| value.get(key).is_some();
    match (has("apiVersion"), has("kind")) {
        (true, false) if has("name") && has("version") && !has("metadata") => {
            Ok("is passed over: this describes a Helm chart; render it with `helm template`")
        }
        (false, false) if value.is_object() => {
            Ok("is passed over: this is no Kubernetes object, for it has neither apiVersion nor kind")
        }
        _ => Err("this is no Kubernetes object: it needs apiVersion and kind, both text"),
    }
}
