//! What a proxy has not accepted, and how it differs from what it has.

use serde_json::Value;

use super::head;
use crate::output::{cell, entries, plural, table};

/// The most differing fields that are shown of one resource.
const MOST: usize = 20;

/// A table of the resources, then the fields of each that differ.
pub(super) fn describe(config: &Value, changes: &Value) -> String {
    let changes = entries(changes);
    let head = head(config);
    if changes.is_empty() {
        return format!("{head}\n\nthe proxy has accepted everything that it may have");
    }
    let rows = changes.iter().map(|one| {
        let objects: Vec<_> = entries(&one["sources"]).iter().map(origin).collect();
        let objects = if objects.is_empty() { "-".to_owned() } else { objects.join(", ") };
        [
            cell(&one["type"]),
            cell(&one["name"]),
            cell(&one["change"]),
            cell(&one["accepted_version"]),
            cell(&one["version"]),
            objects,
        ]
    });
    let table = table(["TYPE", "NAME", "CHANGE", "ACCEPTED", "NEWEST", "FROM"], rows);
    let fields = changes.iter().filter_map(fields).collect::<Vec<_>>().join("\n\n");
    let count = plural(changes.len(), "difference");
    format!("{head}\n\n{count} from what the proxy has accepted\n{table}\n\n{fields}")
}

/// An object and where it was read: `DestinationRule/shop/reviews (rules.yaml:3)`.
pub(in crate::cli) fn origin(source: &Value) -> String {
    let object = cell(&source["object"]);
    match (source["file"].as_str(), source["line"].as_u64()) {
        (Some(file), Some(line)) => format!("{object} ({file}:{line})"),
        (Some(file), None) => format!("{object} ({file})"),
        _ => object,
    }
}

/// The fields in which a resource differs from the accepted one; `None` if one of them is not there to compare.
fn fields(change: &Value) -> Option<String> {
    let (old, new) = (&change["accepted_resource"]["resource"], &change["resource"]["resource"]);
    if old.is_null() || new.is_null() {
        return None;
    }
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    let left = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if left > 0 {
        found.push(format!("  and {} more: -o json has both resources", plural(left, "field")));
    }
    Some(format!("{} {}\n{}", cell(&change["type"]), cell(&change["name"]), found.join("\n")))
}

/// Notes each leaf in which two values differ, by its path.
fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, &old[key], &new[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                compare(&format!("{path}[{at}]"), &old[at], &new[at], found);
            }
        }
        _ if old != new => {
            let shown =
                |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
            found.push(format!("  {path}: {} → {}", shown(old), shown(new)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_by_path() {
        let mut found = Vec::new();
        let old = json!({"a": {"b": 1}, "list": [1, 2], "same": true});
        compare("", &old, &json!({"a": {"b": 2}, "list": [1], "same": true, "new": "x"}), &mut found);
        assert_eq!(found, ["  a.b: 1 → 2", "  list[1]: 2 → nothing", "  new: nothing → \"x\""]);
    }
}
