//! The probes of the application, as the injector writes them: JSON, from a path of the agent's port to the probe that the
//! kubelet would have made itself.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use serde_json::Value;

/// Time for a probe that names none, as the kubelet has it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The probes by path.
pub(crate) type AppProbes = BTreeMap<String, Probe>;

/// One probe of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) port: u16,
    pub(crate) timeout: Duration,
    /// The request; `None` where a connection is enough.
    pub(crate) request: Option<Request>,
}

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads the JSON of the probes; empty text has none.
///
/// # Errors
/// What is wrong, as text.
pub(crate) fn parse(text: &str) -> Result<AppProbes, String> {
    if text.trim().is_empty() {
        return Ok(AppProbes::new());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let map = value.as_object().ok_or("is not a map from paths to probes")?;
    map.iter()
        .map(|(path, value)| Ok((path.clone(), probe(value).map_err(|said| format!("{path}: {said}"))?)))
        .collect()
}

fn probe(value: &Value) -> Result<Probe, String> {
    let seconds = value["timeoutSeconds"].as_u64().filter(|seconds| *seconds > 0);
    let timeout = seconds.map_or(TIMEOUT, Duration::from_secs);
    let (target, request) = match (&value["httpGet"], &value["tcpSocket"]) {
        (get, Value::Null) if get.is_object() => (get, Some(request(get)?)),
        (Value::Null, socket) if socket.is_object() => (socket, None),
        _ => return Err("has to have httpGet or tcpSocket".to_owned()),
    };
    let port = target["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("the port {} is no number from 1 to 65535", target["port"]))?;
    Ok(Probe { port, timeout, request })
}

fn request(get: &Value) -> Result<Request, String> {
    if get["scheme"].as_str().is_some_and(|scheme| scheme != "HTTP") {
        return Err("the scheme is not HTTP".to_owned());
    }
    let path = get["path"].as_str().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let header = |header: &Value| {
        let name = header["name"].as_str()?.parse().ok()?;
        Some((name, header["value"].as_str().unwrap_or_default().parse().ok()?))
    };
    let headers = get["httpHeaders"].as_array().into_iter().flatten();
    let headers = headers.map(header).collect::<Option<_>>().ok_or("a header has no valid name and value")?;
    Ok(Request { path, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_istio_s_injector_writes_them() {
        let text = r#"{
            "/app-health/app/readyz": {"httpGet": {"path": "ready?x=1", "port": 8080, "scheme": "HTTP",
                "httpHeaders": [{"name": "Host", "value": "shop"}]}, "timeoutSeconds": 3},
            "/app-health/app/livez": {"tcpSocket": {"port": 9000}}
        }"#;
        let probes = parse(text).unwrap();
        let ready = &probes["/app-health/app/readyz"];
        assert_eq!((ready.port, ready.timeout), (8080, Duration::from_secs(3)));
        assert_eq!(ready.request.as_ref().unwrap().path, "/ready?x=1");
        let live = &probes["/app-health/app/livez"];
        assert_eq!((live.port, live.timeout, &live.request), (9000, TIMEOUT, &None));
        assert!(parse(" ").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_probe_is_named() {
        for (text, part) in [
            ("[]", "is not a map"),
            ("{", "is not JSON"),
            (r#"{"/a": {}}"#, "/a: has to have httpGet or tcpSocket"),
            (r#"{"/a": {"grpc": {"port": 1}}}"#, "/a: has to have httpGet or tcpSocket"),
            (r#"{"/a": {"tcpSocket": {"port": "http"}}}"#, "is no number from 1 to 65535"),
            (r#"{"/a": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}"#, "is not HTTP"),
            (r#"{"/a": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}}"#, "header"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
