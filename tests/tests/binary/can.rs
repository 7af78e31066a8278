//! `eastwest can`: the worked cases of access control, and what people see.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::harness::Bench;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/authz")
}

#[test]
fn every_case_of_access_comes_out_as_worked() {
    let bench = Bench::new();
    let mut names: Vec<_> = fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 83, "the cases are missing");
    let faults: Vec<String> = names.iter().flat_map(|name| Case::read(name).faults(&bench)).collect();
    assert!(faults.is_empty(), "{} of {} cases\n{}", faults.len(), names.len(), faults.join("\n"));
}

struct Case {
    name: String,
    folder: PathBuf,
    expected: Value,
}

impl Case {
    fn read(name: &str) -> Self {
        let folder = cases().join(name);
        let expected = fs::read_to_string(folder.join("expect.json")).unwrap();
        Self { name: name.to_owned(), folder, expected: serde_json::from_str(&expected).unwrap() }
    }

    fn faults(&self, bench: &Bench) -> Vec<String> {
        let queries = self.expected["queries"].as_array().into_iter().flatten();
        let mut faults: Vec<String> = queries.flat_map(|query| self.faults_of_query(bench, query)).collect();
        if self.expected.get("check").is_some() {
            faults.extend(self.faults_of_check(bench));
        }
        faults
    }

    /// The program in the folder of the case; `{token:FILE}` stands for the content of that file.
    fn run(&self, bench: &Bench, arguments: &[&str]) -> (i32, Value) {
        let filled = |argument: &&str| match argument.split_once("{token:") {
            None => (*argument).to_owned(),
            Some((before, rest)) => {
                let (file, after) = rest.split_once('}').unwrap();
                let token = fs::read_to_string(self.folder.join(file)).unwrap();
                format!("{before}{}{after}", token.trim())
            }
        };
        let arguments: Vec<String> = arguments.iter().map(filled).collect();
        let mut command = bench.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let output =
            command.args(["--config-dir", ".", "-o", "json"]).current_dir(&self.folder).output().unwrap();
        let answer = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let answer = answer.unwrap_or_else(|_| panic!("{} {arguments:?}: {said}", self.name));
        (output.status.code().unwrap(), answer)
    }

    fn faults_of_query(&self, bench: &Bench, query: &Value) -> Vec<String> {
        let arguments: Vec<&str> =
            query["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let (code, answer) = self.run(bench, &[&["can"], &arguments[..]].concat());
        let mut faults = Vec::new();
        for key in ["verdict", "by", "rule", "tls"] {
            let asked = query.get(key).filter(|wanted| key != "verdict" || !wanted.is_null());
            if let Some(wanted) = asked.filter(|wanted| **wanted != answer[key]) {
                faults.push(format!("{key} is {}, not {wanted}", answer[key]));
            }
        }
        if code != i32::from(answer["verdict"] != "ALLOW") {
            faults.push(format!("exit status {code}"));
        }
        let policies = answer["policies"].as_array().unwrap();
        let policy = |name: &str| policies.iter().find(|policy| policy["object"] == name);
        for (name, wanted) in query["matched"].as_object().into_iter().flatten() {
            let matched = policy(name).is_some_and(|policy| policy["matched"] == true);
            if *wanted != matched {
                faults.push(format!("{name} matched: {matched}"));
            }
        }
        for (name, rules) in query["failed"].as_object().into_iter().flatten() {
            for (rule, wanted) in rules.as_object().unwrap() {
                let failed =
                    policy(name).and_then(|policy| policy["failed"].as_array()).into_iter().flatten();
                let found: Vec<&str> = failed
                    .filter(|one| one["rule"].as_u64() == rule.parse().ok())
                    .filter_map(|one| one["condition"].as_str())
                    .collect();
                let fits = |found: &str| {
                    let mut wanted = wanted.as_array().unwrap().iter().filter_map(Value::as_str);
                    wanted.any(|wanted| found == wanted || wanted == "when" && found.starts_with("when"))
                };
                if found.len() != 1 || !fits(found[0]) {
                    faults.push(format!("{name} rule {rule} failed at {found:?}, not {wanted}"));
                }
            }
        }
        faults.into_iter().map(|fault| format!("{} {arguments:?}: {fault}", self.name)).collect()
    }

    fn faults_of_check(&self, bench: &Bench) -> Vec<String> {
        let (code, findings) = self.run(bench, &["check"]);
        let wanted = self.expected["check"].as_array().unwrap();
        let errors = || findings.as_array().unwrap().iter().filter(|one| one["severity"] == "error");
        let mut faults = Vec::new();
        if code != i32::from(!wanted.is_empty()) {
            faults.push(format!("{}: check ends with {code}", self.name));
        }
        for error in errors().filter(|error| !wanted.iter().any(|one| one["object"] == error["object"])) {
            faults.push(format!("{}: {error} is too much", self.name));
        }
        let without_indices = |field: &str| {
            let parts = field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
            parts.collect::<String>()
        };
        for one in wanted {
            let field = one["field"].as_str().unwrap();
            let is_it = |error: &&Value| {
                error["object"] == one["object"]
                    && without_indices(error["field"].as_str().unwrap()).starts_with(field)
            };
            if !errors().any(|error| is_it(&error)) {
                faults.push(format!("{}: no error for {one}", self.name));
            }
        }
        faults
    }
}

const READERS: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: payments}
spec:
  rules:
  - from: [{source: {namespaces: [bookshop]}}]
    to: [{operation: {methods: [GET]}}]
";

/// A person sees who decided, and why each rule did not match; a server answers as a directory does.
#[test]
fn a_denied_call_is_explained() {
    let bench = Bench::new();
    bench.write("readers.yaml", READERS);
    let server = bench.serve(&[]);
    let ask = |source: [&str; 2], method| {
        bench.run(
            &[&["can", "bookshop/storefront-0", "payments.payments:80", method, "/charge"][..], &source]
                .concat(),
        )
    };
    for method in ["GET", "POST"] {
        let directory = ask(["--config-dir", "manifests"], method);
        let served = ask(["--server", &server.url()], method);
        assert_eq!((directory.code, &directory.out), (served.code, &served.out));
    }
    assert_eq!(ask(["--config-dir", "manifests"], "GET").code, 0);
    let denied = ask(["--config-dir", "manifests"], "POST");
    assert_eq!(denied.code, 1, "{denied:?}");
    for said in
        ["Denied: ", "default deny", "to.operation.methods is GET, and the request has POST", "mutual TLS"]
    {
        assert!(denied.out.contains(said), "{said}: {}", denied.out);
    }
}

/// A mistake in the question is 2, and no token is quoted.
#[test]
fn a_question_that_is_none_is_refused() {
    let bench = Bench::new();
    for (arguments, said) in [
        (&["can", "bookshop/nobody", "catalog:80"][..], "no workload bookshop/nobody is known"),
        (&["can", "bookshop/storefront-0", "nobody:80"], "no service \"nobody\" is known"),
        (&["can", "bookshop/storefront-0"], "SERVER:PORT"),
        (&["can", "--principal", "nobody", "catalog.bookshop:80"], "is no SPIFFE ID"),
        (&["can", "bookshop/storefront-0", "catalog:80", "--header", "c2VjcmV0"], "write NAME=VALUE"),
        (&["can", "bookshop/storefront-0", "catalog:80", "--jwt", "nowhere"], "nowhere"),
    ] {
        let finished = bench.run(&[arguments, &["--config-dir", "manifests"]].concat());
        assert_eq!(finished.code, 2, "{arguments:?}: {finished:?}");
        assert!(finished.err.contains(said), "{arguments:?}: {}", finished.err);
        assert!(!finished.err.contains("c2VjcmV0"), "{}", finished.err);
    }
}
