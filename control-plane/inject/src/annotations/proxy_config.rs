//! The annotation `proxy.istio.io/config`: YAML of Istio's ProxyConfig.

use serde_json::{Map, Value};

/// What of a ProxyConfig has an effect here.
#[derive(Debug, Default)]
pub(crate) struct ProxyConfig {
    /// Envoy's worker threads.
    pub(crate) concurrency: Option<u32>,
    /// Whether the application's containers wait for a sidecar that is no native one.
    pub(crate) hold: bool,
    /// How long Envoy drains before it is stopped, as `--drain-time` takes it.
    pub(crate) drain_time: Option<String>,
    /// Variables of the sidecar.
    pub(crate) metadata: Vec<(String, String)>,
}

impl ProxyConfig {
    /// Reads YAML; fields without an effect go to `warnings`.
    pub(super) fn read(text: &str, warnings: &mut Vec<String>) -> Result<Self, String> {
        let value: Value = serde_saphyr::from_str(text).map_err(
            |_| "is not YAML of a ProxyConfig; write for example holdApplicationUntilProxyStarts: true",
        )?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err("is not a map of fields, such as concurrency: 2".to_owned()),
        };
        let mut config = Self::default();
        for (field, value) in fields {
            match field.as_str() {
                "concurrency" => config.concurrency = Some(count(&value)?),
                "holdApplicationUntilProxyStarts" => config.hold = truth(&field, &value)?,
                "terminationDrainDuration" => config.drain_time = Some(duration(&field, &value)?),
                "proxyMetadata" => config.metadata = metadata(&value)?,
                _ => warnings.push(format!("annotation proxy.istio.io/config: field {field} has no effect")),
            }
        }
        Ok(config)
    }
}

fn count(value: &Value) -> Result<u32, String> {
    let number =
        value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= 1024);
    number.ok_or_else(|| format!("concurrency: {value} is not a number of threads from 0 to 1024"))
}

fn truth(field: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{field}: {value} is neither true nor false"))
}

/// A number with a unit of a second or less often: `5s`, `250ms`, `1m`.
fn duration(field: &str, value: &Value) -> Result<String, String> {
    let text = value.as_str().unwrap_or_default();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match digits > 0 && ["ms", "s", "m", "h"].contains(&&text[digits..]) {
        true => Ok(text.to_owned()),
        false => Err(format!("{field}: {value} is not a duration; write for example 5s")),
    }
}

fn metadata(value: &Value) -> Result<Vec<(String, String)>, String> {
    let shape = || format!("proxyMetadata: {value} is not a map from variables to texts");
    let variable = |(name, value): (&String, &Value)| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_name = !name.is_empty() && name.chars().all(allowed);
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        };
        is_name.then_some(())?;
        Some((name.clone(), text?))
    };
    value.as_object().ok_or_else(shape)?.iter().map(variable).collect::<Option<_>>().ok_or_else(shape)
}
