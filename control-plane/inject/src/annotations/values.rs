//! The values of single annotations. Errors say what is wrong and what to write.

use serde_json::Value;

pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
    }
}

/// The name of an image, which has no spaces and no signs that a shell or YAML reads.
pub(super) fn image(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    match !text.is_empty() && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is not the name of an image; write for example registry/eastwest/proxy:1.0"
        )),
    }
}

/// A quantity of Kubernetes: a number with an optional unit.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    const UNITS: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    match number.parse::<f64>().is_ok() && UNITS.contains(&unit) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("{text:?} is not a quantity; write for example 100m or 0.5 of CPU, 128Mi of memory"))
        }
    }
}

/// Seconds or a count of a probe.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| *number <= i32::MAX as u32)
        .ok_or_else(|| format!("{text:?} is not a whole number"))
}

const ENVOY_LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];

pub(super) fn envoy_level(text: &str) -> Result<String, String> {
    let level = if text == "warn" { "warning" } else { text };
    match ENVOY_LEVELS.contains(&level) {
        true => Ok(level.to_owned()),
        false => {
            Err(format!("{text:?} is not a level of Envoy's log; give one of {}", ENVOY_LEVELS.join(", ")))
        }
    }
}

/// `misc:error,upstream:debug`.
pub(super) fn component_levels(text: &str) -> Result<String, String> {
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (component, level) = pair
            .split_once(':')
            .ok_or_else(|| format!("{pair:?} is not COMPONENT:LEVEL, such as misc:error"))?;
        if component.is_empty() || !component.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{component:?} is not a component of Envoy"));
        }
        envoy_level(level)?;
    }
    Ok(text.split_whitespace().collect())
}

/// A level for all of the agent; Istio's form `all:debug` or `default:debug` is taken too.
pub(super) fn agent_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let level = text.strip_prefix("all:").or_else(|| text.strip_prefix("default:")).unwrap_or(text);
    match LEVELS.contains(&level) {
        true => Ok(level.to_owned()),
        false => {
            Err(format!("{text:?} is not a level of the agent's log; give one of {}", LEVELS.join(", ")))
        }
    }
}

/// Whether a mode of interception sets no rules.
pub(super) fn is_unredirected(text: &str) -> Result<bool, String> {
    match text {
        "REDIRECT" => Ok(false),
        "NONE" => Ok(true),
        _ => Err(format!("{text:?} is not supported; give REDIRECT or NONE")),
    }
}

/// Objects with a name, as a list of JSON, or as a map from names to the rest of each.
pub(super) fn named(text: &str, shape: &str) -> Result<Vec<Value>, String> {
    let wrong = || format!("{text:?} is not JSON for {shape}, in a list or by name in a map");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let items = match value {
        Value::Array(items) => items,
        Value::Object(map) => {
            let item = |(name, mut value): (String, Value)| {
                value.as_object_mut()?.entry("name").or_insert_with(|| name.into());
                Some(value)
            };
            map.into_iter().map(item).collect::<Option<_>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let is_named =
        |item: &Value| item.is_object() && item["name"].as_str().is_some_and(|name| !name.is_empty());
    if items.iter().all(is_named) { Ok(items) } else { Err(wrong()) }
}
