//! The worked cases of `tests/cases/calls`: what `explain`, `tls` and `check` say about calls, and that the rendered
//! resources do the same.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_engine::{Snapshot, explain, lint, listeners::Call, report};
use eastwest_model::Diagnostic;
use serde_json::{Value, json};

use crate::{
    wire,
    world::{Resources, world},
};

/// The folders of the cases.
pub(crate) fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/calls");
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The world of a case, and what is expected of it.
pub(crate) fn read(case: &Path) -> (Arc<Snapshot>, Value) {
    let text = |file: &str| fs::read_to_string(case.join(file)).unwrap();
    (world(&text("input.yaml")), serde_json::from_str(&text("expect.json")).unwrap())
}

#[test]
fn every_case_of_calls_comes_out_as_worked() {
    let cases = cases();
    assert!(cases.len() >= 16, "the cases are missing");
    let mut faults = Vec::new();
    for case in cases {
        let (world, expected) = read(&case);
        let findings = lint::diagnostics(&world);
        let found = list(&expected["calls"])
            .flat_map(|call| call_faults(&world, call))
            .chain(list(&expected["tls"]).flat_map(|entry| tls_faults(&world, entry)))
            .chain(finding_faults(&findings, &expected));
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        faults.extend(found.map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn call_faults(world: &Snapshot, call: &Value) -> Vec<String> {
    let text = |key: &str| call[key].as_str().unwrap();
    let (host, port) = text("target").rsplit_once(':').unwrap();
    let explained =
        match explain::explain(world, &text("client").parse().unwrap(), host, port.parse::<u16>().unwrap()) {
            Ok(explained) => explained,
            Err(error) => return vec![format!("{call}: {error}")],
        };
    let mut faults = Vec::new();
    if let Some(listener) = &explained.listener {
        let resources = Resources::of(world, text("client"));
        let address = host.trim_matches(['[', ']']).parse().ok().or_else(|| address_of(&explained));
        let call = Call { address, port: explained.port, first_bytes: wire::first_bytes(&explained) };
        let reached = wire::reached(&resources, &call);
        // Where the name leads to an address that only the listener tells, its exact name does.
        let all = ["0.0.0.0_", "::_", "virtual"].iter().any(|start| listener.starts_with(start));
        let exact = all || address.is_some();
        if exact && reached != explained.cluster && explained.verdict != explain::Verdict::BlackHole {
            faults.push(format!("{call:?}: {} by explain, {reached} on the wire", explained.cluster));
        }
    }
    let found = serde_json::to_value(&explained).unwrap();
    let outcomes = list(&found["endpoints"])
        .map(|one| (one["address"].as_str().unwrap().to_owned(), one["outcome"].clone()))
        .collect::<serde_json::Map<_, _>>();
    for (key, wanted) in call.as_object().unwrap() {
        let actual = match key.as_str() {
            "client" | "target" => continue,
            "says" if explained.reason.contains(text("says")) => continue,
            "says" => json!(explained.reason),
            "mode" => found["setting"]["mode"].clone(),
            "endpoints" => Value::Object(outcomes.clone()),
            key => found[key].clone(),
        };
        if actual != *wanted {
            faults.push(format!("{} {} {key}: {actual}, not {wanted}", text("client"), text("target")));
        }
    }
    faults
}

/// The address in the name of the listener, if it is that of one address.
fn address_of(explained: &explain::Explanation) -> Option<std::net::IpAddr> {
    let (address, _) = explained.listener.as_deref()?.split_once('_')?;
    address.parse().ok().filter(|address: &std::net::IpAddr| !address.is_unspecified()).or_else(|| {
        // A block of addresses has a chain of its own.
        explained.chain.as_deref()?.split_once('/')?.0.parse().ok()
    })
}

fn tls_faults(world: &Snapshot, wanted: &Value) -> Vec<String> {
    let workload = wanted["workload"].as_str().unwrap();
    let report = report::tls_report(world, &workload.parse().unwrap()).unwrap();
    let report = serde_json::to_value(report).unwrap();
    let is_it = |entry: &&Value| entry["host"] == wanted["host"] && entry["port"] == wanted["port"];
    let entry = list(&report["outbound"]).find(is_it);
    let mut faults = Vec::new();
    for (key, value) in wanted.as_object().unwrap() {
        let found = match key.as_str() {
            "workload" | "host" | "port" => continue,
            "warns" if list(&report["warnings"]).any(|one| one["object"] == *value) => continue,
            "warns" => report["warnings"].clone(),
            key => entry.map(|entry| entry[key].clone()).unwrap_or_default(),
        };
        if found != *value {
            faults.push(format!("tls {workload} {key}: {found}, not {value}"));
        }
    }
    faults
}

fn finding_faults(findings: &[Diagnostic], expected: &Value) -> Vec<String> {
    let about = |object: &Value| -> Vec<&str> {
        findings.iter().filter(|one| *object == one.object).map(|one| one.message.as_str()).collect()
    };
    let missing = list(&expected["warn"]).filter_map(|wanted| {
        let found = about(&wanted["object"]);
        let words = wanted["says"].as_str().unwrap();
        (!found.iter().any(|one| one.contains(words))).then(|| format!("check: no {wanted}: {found:?}"))
    });
    let unwanted = list(&expected["silent"]).filter_map(|object| {
        let found = about(object);
        (!found.is_empty()).then(|| format!("check: {object} is reported: {found:?}"))
    });
    missing.chain(unwanted).collect()
}
