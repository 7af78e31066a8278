//! What a policy of access applies to: `selector`, `targetRef` and `targetRefs` (AUTHORIZATION.md Z2, Z3, Z54).

use eastwest_model::Selector;

use super::labels;
use crate::field::Field;

/// Groups and kinds that a reference may name.
const TARGETS: &[(&str, &str)] = &[
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

/// The selector, and whether there are references.
pub(super) fn read(spec: &Field<'_>) -> (Selector, bool) {
    let selects = spec.get("selector");
    let selector = labels::selector(&selects.knows(&["matchLabels"]).get("matchLabels"));
    let (single, several) = (spec.get("targetRef"), spec.get("targetRefs"));
    let items = several.list();
    let is_targeted = single.is_set() || !items.is_empty();
    if is_targeted && selects.is_set() {
        let field = if single.is_set() { &single } else { &several };
        field.error("cannot stand beside a selector: drop one of them");
    }
    if single.is_set() && !items.is_empty() {
        several.error("cannot stand beside targetRef: list all references here");
    }
    let single = single.is_set().then_some(&single);
    items.iter().chain(single).for_each(target);
    (selector, is_targeted)
}

fn target(field: &Field<'_>) {
    field.knows(&["group", "kind", "name", "namespace"]);
    let name = field.get("name");
    if name.name().is_none() {
        name.error("missing: name the object that the policy is for");
    }
    let namespace = field.get("namespace");
    if namespace.name().is_some() {
        namespace.error("is not allowed: a policy is for objects of its own namespace");
    }
    let (group, kind) = (field.get("group"), field.get("kind"));
    let written = (group.text().unwrap_or_default(), kind.text().unwrap_or_default());
    if !TARGETS.contains(&written) {
        kind.error(format_args!(
            "{:?} of group {:?} is no target: use Gateway or GatewayClass of gateway.networking.k8s.io, Service, or \
             ServiceEntry of networking.istio.io",
            written.1, written.0
        ));
    }
}
