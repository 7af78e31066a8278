//! PeerAuthentication (POLICY.md V1, V4).

use std::collections::BTreeMap;

use eastwest_model::{
    MeshConfig, Meta, Object,
    policy::{MutualTlsMode, PeerAuthentication},
};

use super::labels;
use crate::field::Field;

const MODES: &[(&str, Option<MutualTlsMode>)] = &[
    ("UNSET", None),
    ("DISABLE", Some(MutualTlsMode::Disable)),
    ("PERMISSIVE", Some(MutualTlsMode::Permissive)),
    ("STRICT", Some(MutualTlsMode::Strict)),
];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(&["selector", "mtls", "portLevelMtls"]);
    let (selects, mtls, by_port) = (spec.get("selector"), spec.get("mtls"), spec.get("portLevelMtls"));
    let selector = labels::selector(&selects.knows(&["matchLabels"]).get("matchLabels"));
    if selects.is_set() && selector.is_empty() {
        selects.warn(
            "names no label, so the policy holds for every workload: drop it, or name labels in matchLabels",
        );
    }
    let entries = by_port.entries();
    if by_port.is_mapping() && entries.is_empty() {
        by_port.error("is empty: name at least one port, or drop it");
    }
    if selector.is_empty() && !entries.is_empty() {
        by_port.error("needs a selector with labels: ports can only be set for chosen workloads");
    }
    let ports: BTreeMap<_, _> = entries.iter().map(|(key, entry)| (port(key, entry), mode(entry))).collect();
    Some(PeerAuthentication { meta, selector, mode: mode(&mtls), ports }.into())
}

/// What stands in for a refused policy that asks for STRICT, whose errors are at the fields `errors`: everything that can
/// be read of its modes (POLICY.md V4). Nothing if it is in doubt which workloads it is for.
pub(super) fn stand_in(policy: &PeerAuthentication, errors: &[&str]) -> Option<Object> {
    let about_modes = |field: &&&str| {
        ["spec.mtls", "spec.portLevelMtls"].iter().any(|block| {
            field.strip_prefix(block).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let ports = policy.ports.iter().filter(|(port, _)| **port != 0 && !policy.selector.is_empty());
    let ports: BTreeMap<_, _> = ports.map(|(port, mode)| (*port, *mode)).collect();
    let usable = errors.iter().filter(about_modes).count() == errors.len();
    Some(PeerAuthentication { ports, ..policy.clone() })
        .filter(|rest| usable && rest.asks_for_strict())
        .map(Object::from)
}

/// `mode` of an `mtls` block; missing is UNSET (P6).
fn mode(block: &Field<'_>) -> Option<MutualTlsMode> {
    block.knows(&["mode"]).get("mode").choice("modes", MODES).flatten()
}

/// The port that an entry is for; 0 only with an error.
fn port(key: &str, entry: &Field<'_>) -> u16 {
    let port = key.parse().unwrap_or(0);
    if port == 0 {
        entry.error(format_args!("{key:?} is not a container port: use a number from 1 to 65535"));
    }
    port
}
