//! Probes of the pod's containers. The kubelet makes them in plaintext from outside the pod, which a STRICT policy
//! refuses: they go to the agent instead, which makes them inside the pod.

use serde_json::{Map, Value, json};

use crate::template::{INIT, PROXY};

/// The agent's port for probes.
pub(crate) const PORT: u16 = 15020;

/// Field of a container with a probe, and the end of its path at the agent.
const PROBES: [(&str, &str); 3] =
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")];
/// The same for handlers of its lifecycle.
const HANDLERS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Points the probes and handlers of the pod's own containers at the agent. Returns the originals by the agent's path, and
/// warnings about those that stay.
pub(crate) fn rewrite(pod: &mut Value) -> (Map<String, Value>, Vec<String>) {
    let (mut originals, mut warnings) = (Map::new(), Vec::new());
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            if name == PROXY || name == INIT {
                continue;
            }
            let ports = container["ports"].clone();
            let mut move_one = |holder: &mut Value, field: &str, path: String| {
                let Some(probe) = holder.get_mut(field) else { return };
                match original(probe, &ports) {
                    Ok(Some(original)) => {
                        point_at(probe, &path);
                        originals.insert(path, original);
                    }
                    Ok(None) => {}
                    Err(why) => warnings.push(format!(
                        "container {name}: {field} is left as it is, {why}; it fails where the policy is STRICT"
                    )),
                }
            };
            for (field, end) in PROBES {
                move_one(container, field, format!("/app-health/{name}/{end}"));
            }
            if let Some(lifecycle) = container.get_mut("lifecycle") {
                for (field, end) in HANDLERS {
                    move_one(lifecycle, field, format!("/app-lifecycle/{name}/{end}"));
                }
            }
        }
    }
    (originals, warnings)
}

/// The probe as the agent has to make it; `None` where the kubelet can go on to make it.
fn original(probe: &Value, ports: &Value) -> Result<Option<Value>, &'static str> {
    let (kind, target) =
        match ["httpGet", "tcpSocket", "grpc"].iter().find_map(|kind| Some((*kind, probe.get(kind)?))) {
            None => return Ok(None),
            Some(("grpc", _)) => return Err("for the agent makes no probes by gRPC yet"),
            Some(found) => found,
        };
    if target["scheme"].as_str().is_some_and(|scheme| scheme != "HTTP") {
        return Err("for the agent makes no probes by HTTPS yet");
    }
    // Whoever is asked there is not this pod.
    if target["host"].as_str().is_some_and(|host| !host.is_empty()) {
        return Ok(None);
    }
    let number =
        number(&target["port"], ports).ok_or("for its port has no number among those of the container")?;
    if number == PORT {
        return Ok(None);
    }
    let mut target = target.clone();
    target["port"] = number.into();
    let mut original = json!({ kind: target });
    if let Some(seconds) = probe.get("timeoutSeconds") {
        original["timeoutSeconds"] = seconds.clone();
    }
    Ok(Some(original))
}

/// The number of a port that may be given by its name.
fn number(port: &Value, ports: &Value) -> Option<u16> {
    let named = |name: &str| {
        let port = ports.as_array()?.iter().find(|port| port["name"] == name)?;
        port["containerPort"].as_u64()
    };
    let number = match port.as_str() {
        Some(text) => text.parse().ok().or_else(|| named(text)),
        None => port.as_u64(),
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

fn point_at(probe: &mut Value, path: &str) {
    if let Some(probe) = probe.as_object_mut() {
        probe.shift_remove("tcpSocket");
        probe.insert("httpGet".to_owned(), json!({"path": path, "port": PORT, "scheme": "HTTP"}));
    }
}
