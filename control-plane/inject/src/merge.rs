//! One value laid over another: maps by key, lists of named things by name, everything else replaced.

use serde_json::Value;

/// Lays `over` over `base`. `null` removes. Items of lists are the same if their name, mount path or port is; new ones
/// come last.
pub(crate) fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    _ if value.is_null() => drop(base.shift_remove(&key)),
                    Some(known) => overlay(known, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if over.iter().all(|item| identity(item).is_some()) => {
            for item in over {
                match base.iter_mut().find(|known| identity(known) == identity(&item)) {
                    Some(known) => overlay(known, item),
                    None => base.push(item),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// What makes an item of a list the same as another.
fn identity(item: &Value) -> Option<&Value> {
    ["mountPath", "name", "containerPort"].iter().find_map(|key| item.get(key))
}
