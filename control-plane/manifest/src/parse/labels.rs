//! Labels and the selectors that pick them.

use eastwest_model::{Labels, Selector};

use super::metadata::texts;
use crate::field::Field;

/// Longest label value in bytes, and longest name part of a key.
const MAX_VALUE: usize = 63;
/// Longest DNS prefix of a key.
const MAX_PREFIX: usize = 253;

/// The mapping of a workload selector (`matchLabels`, `labels`): no empty key, no wildcard, no overlong value
/// (POLICY.md V1, V2).
pub(super) fn selector(field: &Field<'_>) -> Selector {
    let labels = texts(field);
    for (key, value) in &labels {
        if key.is_empty() {
            field.error(format_args!("the label key of value {value:?} is empty: name the label"));
        }
        if key.contains('*') || value.contains('*') {
            field.error(format_args!(
                "{key}={value} has a wildcard, which a selector does not know: spell the label out"
            ));
        }
        if value.len() > MAX_VALUE {
            field.error(format_args!(
                "{value:?} is longer than a label's {MAX_VALUE} bytes and selects nothing"
            ));
        }
    }
    Selector(labels)
}

/// Labels that are matched or given by an object of Istio: keys and values as Kubernetes wants them.
pub(super) fn valid(field: &Field<'_>) -> Labels {
    let labels = texts(field);
    for (key, value) in &labels {
        if !is_key(key) {
            field.error(format_args!(
                "{key:?} is no label key: use [prefix/]name of letters, digits, '-', '_', '.'"
            ));
        }
        if !value.is_empty() && !is_qualified(value) {
            field.error(format_args!("{value:?} is no label value: use letters, digits, '-', '_' and '.'"));
        }
    }
    labels
}

fn is_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_label = |label: &str| is_qualified(label) && !label.contains(['.', '_']);
    let prefix_holds =
        prefix.is_none_or(|prefix| prefix.len() <= MAX_PREFIX && prefix.split('.').all(is_label));
    prefix_holds && name.len() <= MAX_VALUE && is_qualified(name)
}

/// Letters and digits, inside also `-`, `_` and `.`.
fn is_qualified(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || "-_.".contains(c))
}
