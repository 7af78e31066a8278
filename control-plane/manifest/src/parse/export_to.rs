//! `exportTo`: who may see an object (POLICY.md D5, D9, V2). Sets stay as written.

use std::collections::BTreeSet;

use eastwest_model::{Name, names::is_dns_label, service::ExportTo};

use crate::field::Field;

/// What an `exportTo` may hold besides namespaces, `.` and `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing: rules.
    Namespaces,
    /// Nothing, and not more than the own namespace: rules with a workload selector.
    OwnNamespace,
    /// `~`, no namespace: ServiceEntries.
    Nobody,
}

/// Reads `exportTo` of an object of `namespace`; an empty list is none at all.
pub(super) fn read(field: &Field<'_>, namespace: &str, allowed: Allowed) -> ExportTo {
    let items = field.list();
    let mut seen = BTreeSet::new();
    for item in &items {
        let Some(text) = item.text() else { continue };
        check_item(item, text, allowed);
        if !seen.insert(if text == "." { namespace } else { text }) {
            let own = text == "." || text == namespace;
            let same = if own { " (\".\" is the own namespace)" } else { "" };
            item.error(format_args!("{text:?} stands twice{same}: name each namespace once"));
        }
    }
    for lonely in ["*", "~"] {
        if items.len() > 1 && seen.contains(lonely) {
            field.error(format_args!("{lonely:?} must stand alone: drop it or everything else"));
        }
    }
    if allowed == Allowed::OwnNamespace && seen.iter().any(|name| *name != namespace) {
        let remedy = "a rule with workloadSelector holds in its own namespace only: write [\".\"]";
        field.error(format_args!("exported beyond {namespace}, but {remedy}"));
    }
    if items.is_empty() { ExportTo::Default } else { ExportTo::Set(field.names().into_iter().collect()) }
}

fn check_item(item: &Field<'_>, text: &str, allowed: Allowed) {
    match text {
        "." | "*" => {}
        "~" if allowed == Allowed::Nobody => {}
        "~" => item.error("\"~\" (nobody) is for services, not for rules: use \".\" for the own namespace"),
        _ if is_dns_label(text) => {}
        _ => item.error(format_args!("{text:?} is no namespace: use \".\", \"*\" or names of namespaces")),
    }
}

/// Reads the annotation `networking.istio.io/exportTo` of a Service: a list separated by commas.
pub(super) fn of_annotation(text: &str) -> ExportTo {
    let names: BTreeSet<Name> =
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect();
    if names.is_empty() { ExportTo::Default } else { ExportTo::Set(names) }
}
