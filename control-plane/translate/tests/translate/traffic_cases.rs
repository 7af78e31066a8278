//! The worked cases of `tests/cases/traffic`: what `route` and `check` say, and that the rendered resources do the same.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_engine::{
    Index, Snapshot,
    listeners::{Call, FirstBytes},
    route::{self, Request, Scheme},
};
use eastwest_manifest::parse;
use eastwest_model::{Change, MeshConfig, Severity, TrustDomain};
use serde_json::Value;

use crate::{
    envoy, wire,
    world::{self, Resources},
};

/// The folders of the cases, with what is expected of each.
fn cases() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/traffic");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        all.filter(|path| path.is_dir()).map(|case| (case.clone(), expected(&case))).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn expected(case: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(case.join("expect.json")).unwrap()).unwrap()
}

fn parsed(case: &Path) -> parse::Parsed {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    parse::documents(&fs::read_to_string(case.join("input.yaml")).unwrap(), "input.yaml", &defaults)
}

/// A world in which a refused object is missing.
fn snapshot(case: &Path) -> Arc<Snapshot> {
    let mut index = Index::new(MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system"));
    for object in parsed(case).objects {
        index.apply(Change::Upsert(object));
    }
    index.freeze()
}

#[test]
fn worked_cases_of_mistakes_come_out() {
    let mut checked = 0;
    for (case, expected) in cases() {
        let Some(wanted) = expected["check"].as_array() else { continue };
        let parsed = parsed(&case);
        let errors = parsed.diagnostics.iter().filter(|one| one.severity == Severity::Error);
        let found: Vec<_> = errors.map(|one| (one.object.clone(), without_indices(&one.field))).collect();
        for one in wanted {
            let (object, field) = (one["object"].as_str().unwrap(), one["field"].as_str().unwrap());
            let is_it = |(of, at): &(String, String)| of == object && at.starts_with(field);
            assert!(found.iter().any(is_it), "{}: {object} {field}\n{found:#?}", case.display());
            checked += 1;
        }
        let named: BTreeSet<_> = wanted.iter().map(|one| one["object"].as_str().unwrap()).collect();
        let others: Vec<_> = found.iter().filter(|(object, _)| !named.contains(&**object)).collect();
        assert!(others.is_empty(), "{}: {others:?}", case.display());
    }
    assert!(checked > 10, "only {checked} mistakes");
}

fn without_indices(field: &str) -> String {
    field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The arguments of a query: the client, a method, a URL, `--host`.
fn request(arguments: &[&str]) -> (String, Request) {
    let url = arguments.iter().find(|one| one.contains("://")).unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let after = |flag: &str| {
        let at = arguments.iter().position(|one| *one == flag)?;
        Some(arguments[at + 1].to_owned())
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "tls" => Scheme::Tls,
        _ => Scheme::Tcp,
    };
    let request = Request {
        scheme,
        host: host.to_owned(),
        port: port.parse().unwrap(),
        authority: after("--host"),
        method: "GET".to_owned(),
        path: format!("/{path}"),
        headers: Vec::new(),
    };
    (arguments[0].to_owned(), request)
}

/// Where an answer differs: objects may have more keys, lists are compared whole, `null` is nothing.
fn differences(path: &str, found: &Value, wanted: &Value, faults: &mut Vec<String>) {
    let is_nothing = |value: &Value| {
        value.is_null() || *value == Value::Bool(false) || value.as_array().is_some_and(Vec::is_empty)
    };
    match (found, wanted) {
        (found, wanted) if is_nothing(wanted) && is_nothing(found) => {}
        (Value::Object(found), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let found = found.get(key).unwrap_or(&Value::Null);
                differences(&format!("{path}.{key}"), found, wanted, faults);
            }
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                differences(&format!("{path}[{at}]"), found, wanted, faults);
            }
        }
        (Value::Number(found), Value::Number(wanted)) if found.as_f64() == wanted.as_f64() => {}
        _ if found == wanted => {}
        _ => faults.push(format!("{path}: {found}, not {wanted}")),
    }
}

#[test]
fn worked_cases_of_traffic_come_out() {
    let program = envoy::stock_envoy("worked_cases_of_traffic_come_out");
    let (mut asked, mut faults) = (0, Vec::new());
    for (case, expected) in cases() {
        let snapshot = snapshot(&case);
        for query in expected["queries"].as_array().into_iter().flatten() {
            let arguments: Vec<_> =
                query["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
            let (client, request) = request(&arguments);
            let answer = route::route(&snapshot, &client.parse().unwrap(), &request).unwrap();
            let mut found = Vec::new();
            let answer = serde_json::to_value(&answer).unwrap();
            differences("", &answer, &query["expect"], &mut found);
            let resources = Resources::of(&snapshot, &client);
            found.extend(wire_fault(&resources, &request, &answer));
            if let Some(program) = &program {
                found.extend(Some(envoy::complaints(program, &resources)).filter(|said| !said.is_empty()));
            }
            faults
                .extend(found.into_iter().map(|fault| format!("{} {arguments:?}: {fault}", case.display())));
            asked += 1;
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(asked > 15, "only {asked} questions");
}

/// Whether the rendered resources lead elsewhere. What only an address tells is left out: an answer does not have it.
fn wire_fault(resources: &Resources, request: &Request, answer: &Value) -> Option<String> {
    let listener = answer["listener"].as_str().unwrap();
    let address = listener.rsplit_once('_').and_then(|(address, _)| address.parse().ok());
    let first_bytes = match request.scheme {
        Scheme::Http => FirstBytes::Http { authority: request.authority() },
        Scheme::Tls => FirstBytes::Tls { server_name: Some(request.host.clone()) },
        Scheme::Tcp => FirstBytes::Other,
    };
    let call = Call { address, port: request.port, first_bytes };
    let reached = wire::reached(resources, &call);
    let said = match answer["direct_response"]["status"].as_u64() {
        Some(status) => status.to_string(),
        None => answer["destinations"][0]["cluster"].as_str().unwrap_or_default().to_owned(),
    };
    (reached != said)
        .then(|| format!("{said} by route, {reached} on the wire ({})", world::json(&resources.routes).len()))
}
