//! What a pod asks of its sidecar by annotations, read into types: nothing that an annotation says reaches the pod as it
//! stands, unless it is a JSON value of the shape that its place needs.

mod proxy_config;
mod values;

use eastwest_redirect::{interfaces, ports, ranges, selected_ports, selected_ranges};
use serde_json::{Map, Value};

use crate::{Mistake, Texts};

pub(crate) use proxy_config::ProxyConfig;

/// The annotations of one pod, read.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) image: Option<String>,
    /// `requests` and `limits`, as the container has them.
    pub(crate) resources: Map<String, Value>,
    pub(crate) native: Option<bool>,
    /// Whether probes stay as they are.
    pub(crate) keep_probes: bool,
    pub(crate) log_level: Option<String>,
    pub(crate) component_log_level: Option<String>,
    pub(crate) agent_log_level: Option<String>,
    /// No redirection.
    pub(crate) unredirected: bool,
    /// Flags of `eastwest redirect` with their values.
    pub(crate) redirection: Vec<(&'static str, String)>,
    /// Fields of the readiness probe.
    pub(crate) readiness: Map<String, Value>,
    pub(crate) volumes: Vec<Value>,
    pub(crate) mounts: Vec<Value>,
    pub(crate) config: ProxyConfig,
    /// What has no effect, with a hint.
    pub(crate) warnings: Vec<String>,
}

/// A reader of one annotation.
type Read = fn(&mut Wishes, &str) -> Result<(), String>;

/// Checks a list for a flag of `eastwest redirect`, and passes it on.
macro_rules! flag {
    ($flag:literal, $check:path) => {
        |wishes, text| {
            $check(text).map(drop)?;
            wishes.redirection.push(($flag, text.split_whitespace().collect()));
            Ok(())
        }
    };
}

/// A whole number as a field of the readiness probe.
macro_rules! probe {
    ($field:literal) => {
        |wishes, text| {
            wishes.readiness.insert($field.to_owned(), values::seconds(text)?.into());
            Ok(())
        }
    };
}

/// A quantity among the resources.
macro_rules! resource {
    ($kind:literal, $name:literal) => {
        |wishes, text| {
            let quantity = values::quantity(text)?;
            let kind = wishes.resources.entry($kind).or_insert_with(|| Value::Object(Map::new()));
            kind[$name] = quantity.into();
            Ok(())
        }
    };
}

/// Every annotation that has an effect.
const READERS: &[(&str, Read)] = &[
    ("sidecar.istio.io/proxyImage", |wishes, text| {
        wishes.image = Some(values::image(text)?);
        Ok(())
    }),
    ("sidecar.istio.io/proxyCPU", resource!("requests", "cpu")),
    ("sidecar.istio.io/proxyMemory", resource!("requests", "memory")),
    ("sidecar.istio.io/proxyCPULimit", resource!("limits", "cpu")),
    ("sidecar.istio.io/proxyMemoryLimit", resource!("limits", "memory")),
    ("sidecar.istio.io/nativeSidecar", |wishes, text| {
        wishes.native = Some(values::truth(text)?);
        Ok(())
    }),
    ("sidecar.istio.io/rewriteAppHTTPProbers", |wishes, text| {
        wishes.keep_probes = !values::truth(text)?;
        Ok(())
    }),
    ("sidecar.istio.io/logLevel", |wishes, text| {
        wishes.log_level = Some(values::envoy_level(text)?);
        Ok(())
    }),
    ("sidecar.istio.io/componentLogLevel", |wishes, text| {
        wishes.component_log_level = Some(values::component_levels(text)?);
        Ok(())
    }),
    ("sidecar.istio.io/agentLogLevel", |wishes, text| {
        wishes.agent_log_level = Some(values::agent_level(text)?);
        Ok(())
    }),
    ("sidecar.istio.io/interceptionMode", |wishes, text| {
        wishes.unredirected = values::is_unredirected(text)?;
        Ok(())
    }),
    ("sidecar.istio.io/userVolume", |wishes, text| {
        wishes.volumes = values::named(
            text,
            "a volume, such as {\"name\": \"certs\", \"secret\": {\"secretName\": \"certs\"}}",
        )?;
        Ok(())
    }),
    ("sidecar.istio.io/userVolumeMount", |wishes, text| {
        wishes.mounts =
            values::named(text, "a mount, such as {\"name\": \"certs\", \"mountPath\": \"/etc/certs\"}")?;
        Ok(())
    }),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", probe!("initialDelaySeconds")),
    ("readiness.status.sidecar.istio.io/periodSeconds", probe!("periodSeconds")),
    ("readiness.status.sidecar.istio.io/failureThreshold", probe!("failureThreshold")),
    ("traffic.sidecar.istio.io/includeInboundPorts", flag!("--include-inbound-ports", selected_ports)),
    ("traffic.sidecar.istio.io/excludeInboundPorts", flag!("--exclude-inbound-ports", ports)),
    ("traffic.sidecar.istio.io/includeOutboundPorts", flag!("--include-outbound-ports", ports)),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", flag!("--exclude-outbound-ports", ports)),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", flag!("--include-outbound-ranges", selected_ranges)),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", flag!("--exclude-outbound-ranges", ranges)),
    ("traffic.sidecar.istio.io/excludeInterfaces", flag!("--exclude-interfaces", interfaces)),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", flag!("--reroute-virtual-interfaces", interfaces)),
    ("istio.io/reroute-virtual-interfaces", flag!("--reroute-virtual-interfaces", interfaces)),
    ("inject.istio.io/templates", |_, text| match text.trim() {
        "sidecar" => Ok(()),
        _ => Err(format!("{text:?} is not a template; there is sidecar alone, which is the default")),
    }),
    ("proxy.istio.io/config", |wishes, text| {
        wishes.config = ProxyConfig::read(text, &mut wishes.warnings)?;
        Ok(())
    }),
];

/// Annotations that are read elsewhere, or are our own.
const KNOWN: &[&str] = &[
    crate::decision::INJECT,
    crate::decision::STATUS,
    crate::decision::REVISION,
    crate::decision::OVERRIDES,
];

/// What the annotations of the sidecar begin with.
const PREFIXES: [&str; 5] = [
    "sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "inject.istio.io/",
    "proxy.istio.io/",
];

impl Wishes {
    /// Reads the annotations of a pod.
    ///
    /// # Errors
    /// Every value that cannot be read, with its annotation.
    pub(crate) fn read(annotations: &Texts) -> Result<Self, Vec<Mistake>> {
        let mut wishes = Self::default();
        let mut mistakes = Vec::new();
        for (name, text) in annotations {
            match READERS.iter().find(|(known, _)| known == name) {
                Some((_, read)) => {
                    if let Err(message) = read(&mut wishes, text) {
                        mistakes.push(Mistake { place: format!("annotation {name}"), message });
                    }
                }
                None if KNOWN.contains(&name.as_str()) => {}
                None if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => {
                    wishes.warnings.push(unknown(name));
                }
                None => {}
            }
        }
        if mistakes.is_empty() { Ok(wishes) } else { Err(mistakes) }
    }
}

/// An annotation that has no effect, with the one that was perhaps meant.
fn unknown(name: &str) -> String {
    let meant = READERS.iter().map(|(known, _)| *known).find(|known| is_near(known, name));
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    format!("annotation {name} has no effect{hint}")
}

/// Whether two names differ in their case, or in one letter that is wrong, missing or too much.
fn is_near(known: &str, name: &str) -> bool {
    if known.eq_ignore_ascii_case(name) {
        return true;
    }
    let begin = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let (known, name) = (&known.as_bytes()[begin..], &name.as_bytes()[begin..]);
    let rest = |text: &[u8]| text.get(1..).unwrap_or_default().to_vec();
    rest(known) == rest(name) || rest(known) == name || known == rest(name)
}
