//! The worked cases of TLS policy (tests/cases): what each small mesh must come to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use eastwest_engine::{Index, Snapshot, lint, report};
use eastwest_manifest::parse;
use eastwest_model::{Change, Diagnostic, MeshConfig, Severity, TrustDomain};
use serde_json::Value;

/// Cases that fail and why; a case that begins to pass must leave this list.
const KNOWN_FAILURES: &[(&str, &str)] = &[];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/tls")
}

#[test]
fn every_case_comes_out_as_worked() {
    let known: BTreeMap<&str, &str> = KNOWN_FAILURES.iter().copied().collect();
    let mut names: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 83, "the cases are missing");
    let mut report = Vec::new();
    for name in &names {
        let faults = Case::read(name).faults();
        match (faults.is_empty(), known.get(name.as_str())) {
            (true, None) => {}
            (true, Some(_)) => report.push(format!("{name}: passes now, take it off the list")),
            (false, Some(_)) => {}
            (false, None) => report.push(format!("{name}:\n  {}", faults.join("\n  "))),
        }
    }
    assert!(report.is_empty(), "{} of {} cases\n{}", report.len(), names.len(), report.join("\n"));
}

/// One case, read and computed.
struct Case {
    expected: Value,
    snapshot: std::sync::Arc<Snapshot>,
    input: Vec<Diagnostic>,
}

impl Case {
    fn read(name: &str) -> Self {
        let file = |file: &str| fs::read_to_string(directory().join(name).join(file)).unwrap();
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let parsed = parse::documents(&file("input.yaml"), "input.yaml", &defaults);
        let mut index = Index::new(defaults);
        for object in parsed.objects {
            index.apply(Change::Upsert(object));
        }
        Self {
            expected: serde_json::from_str(&file("expect.json")).unwrap(),
            snapshot: index.freeze(),
            input: parsed.diagnostics,
        }
    }

    /// Everything that is not as the case wants it.
    fn faults(&self) -> Vec<String> {
        if self.expected["reject"].as_bool() == Some(true) {
            return self.rejection_faults();
        }
        let errors = self.input.iter().filter(|one| one.severity == Severity::Error);
        let mut faults: Vec<String> = errors
            .map(|error| format!("refused: {} {} {}", error.object, error.field, error.message))
            .collect();
        let workload = self.expected["workload"].as_str().unwrap().parse().unwrap();
        let Some(report) = report::tls_report(&self.snapshot, &workload) else {
            return vec![format!("no workload {workload}")];
        };
        let report = serde_json::to_value(report).unwrap();
        faults.extend(self.inbound_faults(&report["inbound"]));
        faults.extend(self.outbound_faults(&report["outbound"]));
        faults.extend(self.warning_faults(&report["warnings"]));
        faults
    }

    /// An error must say all the words, case-insensitive.
    fn rejection_faults(&self) -> Vec<String> {
        let words: Vec<String> =
            strings(&self.expected["must_name"]).map(|word| word.to_lowercase()).collect();
        let says_all = |error: &Diagnostic| {
            let text = serde_json::to_string(error).unwrap().to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        let mut errors = self.input.iter().filter(|one| one.severity == Severity::Error);
        if errors.any(says_all) {
            return Vec::new();
        }
        vec![format!("no error names {words:?}: {:?}", self.input)]
    }

    /// `default` and `ports` exactly; a port may be left out where it equals the default.
    fn inbound_faults(&self, actual: &Value) -> Vec<String> {
        let expected = &self.expected["inbound"];
        let mut faults = Vec::new();
        if expected["default"] != actual["default"] {
            faults.push(format!("inbound: {} instead of {}", actual["default"], expected["default"]));
        }
        let ports = |value: &Value| -> BTreeMap<String, Value> {
            value["ports"].as_object().cloned().unwrap_or_default().into_iter().collect()
        };
        let (mut expected_ports, mut actual_ports) = (ports(expected), ports(actual));
        expected_ports.retain(|port, mode| *mode != expected["default"] || actual_ports.contains_key(port));
        actual_ports.retain(|port, mode| *mode != expected["default"] || expected_ports.contains_key(port));
        if expected_ports != actual_ports {
            faults.push(format!("inbound ports: {actual_ports:?} instead of {expected_ports:?}"));
        }
        faults
    }

    fn outbound_faults(&self, actual: &Value) -> Vec<String> {
        let key = |entry: &Value| [entry["host"].clone(), entry["port"].clone(), entry["subset"].clone()];
        let find = |wanted: &Value| actual.as_array().unwrap().iter().find(|one| key(one) == key(wanted));
        let mut faults = Vec::new();
        for wanted in self.expected["outbound"].as_array().into_iter().flatten() {
            let Some(found) = find(wanted) else {
                faults.push(format!("outbound: {:?} is missing", key(wanted)));
                continue;
            };
            for (field, value) in wanted.as_object().unwrap() {
                if found[field] != *value {
                    faults.push(format!("{:?} {field}: {} instead of {value}", key(wanted), found[field]));
                }
            }
        }
        for unwanted in self.expected["absent"].as_array().into_iter().flatten() {
            if find(unwanted).is_some() {
                faults.push(format!("outbound: {:?} must not be there", key(unwanted)));
            }
        }
        faults
    }

    /// Each object of `warn` is named by some diagnostic; a quirk is warned about by the report itself.
    fn warning_faults(&self, warnings: &Value) -> Vec<String> {
        let of_report =
            warnings.as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap().to_owned());
        let of_report: BTreeSet<String> = of_report.collect();
        let mut named = of_report.clone();
        named.extend(self.input.iter().map(|one| one.object.clone()));
        named.extend(lint::diagnostics(&self.snapshot).into_iter().map(|one| one.object));
        let wanted =
            strings(&self.expected["warn"]).map(|text| text.split(':').next().unwrap_or(text).to_owned());
        let mut faults: Vec<String> = wanted
            .filter(|object| !named.contains(object))
            .map(|object| format!("no diagnostic names {object}, only {named:?}"))
            .collect();
        if self.expected["quirk"].as_bool() == Some(true) && of_report.is_empty() {
            faults.push("a quirk without a warning".to_owned());
        }
        faults
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}
