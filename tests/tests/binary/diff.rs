//! `eastwest diff`: goldens, exit codes, and what must not matter. `UPDATE_GOLDEN=1` writes the goldens anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use eastwest_tests::programs;
use serde_json::{Value, json};

use crate::harness::{Bench, Finished};

/// Changes of the bookshop, with the code that each ends with.
const CHANGES: [(&str, i32); 4] =
    [("strict-mesh", 1), ("payments-disable", 0), ("callers-disable", 1), ("with-mistakes", 1)];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/diff").join(name)
}

/// `eastwest diff` of the manifests with these flags.
fn diff(bench: &Bench, flags: &[&str]) -> Finished {
    bench.run(&[&["diff", "--config-dir", "manifests"], flags].concat())
}

/// `eastwest diff` of the manifests with a fixture applied.
fn apply(bench: &Bench, name: &str, format: &str) -> Finished {
    let file = fixture(&format!("{name}.yaml"));
    diff(bench, &["-f", file.to_str().unwrap(), "-o", format])
}

#[test]
fn changes_of_the_bookshop_read_as_in_the_goldens() {
    let bench = Bench::new();
    let mut faults = Vec::new();
    for (name, code) in CHANGES {
        for (format, ending) in [("table", "txt"), ("json", "json")] {
            let found = apply(&bench, name, format);
            assert_eq!((found.code, &*found.err), (code, ""), "{name}: {found:?}");
            let golden = fixture(&format!("{name}.{ending}"));
            if env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&golden, &found.out).unwrap();
            }
            if fs::read_to_string(&golden).unwrap_or_default() != found.out {
                faults.push(format!("{}:\n{}", golden.display(), found.out));
            }
        }
    }
    assert!(faults.is_empty(), "not as in the goldens (UPDATE_GOLDEN=1 writes them):\n{}", faults.join("\n"));
}

#[test]
fn where_manifests_stand_and_in_which_order_never_matters() {
    let bench = Bench::new();
    let golden: Vec<_> = CHANGES.map(|(name, _)| apply(&bench, name, "json").out).into();
    let mut files: Vec<_> =
        fs::read_dir(bench.manifests.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    let all = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>().join("\n---\n");
    let mut documents: Vec<_> = all.split("\n---\n").collect();
    documents.reverse();
    fs::create_dir(bench.path("shuffled")).unwrap();
    fs::write(bench.path("shuffled/all.yaml"), documents.join("\n---\n")).unwrap();
    for (number, (name, _)) in CHANGES.into_iter().enumerate() {
        let file = fixture(&format!("{name}.yaml"));
        let flags = ["diff", "--config-dir", "shuffled", "-o", "json", "-f", file.to_str().unwrap()];
        assert_eq!(bench.run(&flags).out, golden[number], "{name}");
    }
    let same = diff(&bench, &["--against", "shuffled"]);
    assert_eq!(same.success(), "nothing breaks\n\nno object differs\n");
}

/// What diff foretells is what explain says once the change is made.
#[test]
fn the_predicted_change_is_the_real_one() {
    let bench = Bench::new();
    for (name, _) in CHANGES {
        let told = apply(&bench, name, "json").json();
        let calls: Vec<(String, Value)> =
            told["calls"].as_array().unwrap().iter().flat_map(calls_of).collect();
        assert!(!calls.is_empty(), "{name}");
        let manifests = bench.path(name);
        copy(bench.manifests.dir(), &manifests);
        // The policy that the change replaces goes; the change itself has no age, and nor need it here.
        let text = fs::read_to_string(manifests.join("policies.yaml")).unwrap();
        let replaced = told["objects"].as_array().unwrap().iter().filter(|one| one["change"] == "changed");
        let replaced: Vec<_> = replaced.map(|one| one["object"].as_str().unwrap().to_owned()).collect();
        let kept: Vec<_> = text.split("\n---\n").filter(|one| !replaced.contains(&reference(one))).collect();
        fs::write(manifests.join("policies.yaml"), kept.join("\n---\n")).unwrap();
        fs::copy(fixture(&format!("{name}.yaml")), manifests.join("new.yaml")).unwrap();
        for (client, change) in calls {
            let target = format!("{}:{}", change["host"].as_str().unwrap(), change["port"]);
            let said = bench.run(&["explain", &client, &target, "--config-dir", name, "-o", "json"]).json();
            assert_eq!(said["verdict"], change["after"]["verdict"], "{name}: {client} → {target}");
            let before =
                bench.run(&["explain", &client, &target, "--config-dir", "manifests", "-o", "json"]).json();
            assert_eq!(before["verdict"], change["before"]["verdict"], "{name}: {client} → {target}");
        }
        let whole = diff(&bench, &["--against", name, "-o", "json"]);
        assert_eq!(whole.json()["calls"], told["calls"], "{name}: a file and a directory say the same");
    }
}

fn calls_of(group: &Value) -> Vec<(String, Value)> {
    let changes = group["changes"].as_array().unwrap();
    let clients = group["clients"].as_array().unwrap().iter();
    let calls = clients.flat_map(|client| changes.iter().map(move |change| (client, change)));
    calls.map(|(client, change)| (client.as_str().unwrap().to_owned(), change.clone())).collect()
}

/// `Kind/namespace/name` of a document.
fn reference(document: &str) -> String {
    let value: Value = serde_saphyr::from_str(document).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &value["metadata"];
    format!("{}/{}/{}", text(&value["kind"]), text(&meta["namespace"]), text(&meta["name"]))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn objects_are_deleted_by_name() {
    let bench = Bench::new();
    let found = diff(&bench, &["--delete", "PeerAuthentication/payments/default", "-o", "json"]);
    assert_eq!(found.code, 0, "{found:?}");
    let found = found.json();
    assert_eq!(
        found["objects"],
        json!([{"object": "PeerAuthentication/payments/default", "change": "removed"}])
    );
    assert_eq!(found["inbound"][0]["before"]["mode"], "STRICT");
    assert_eq!(found["inbound"][0]["after"]["policy"], "PeerAuthentication/istio-system/default");
    let near = diff(&bench, &["--delete", "PeerAuthentication/payments/defalt", "--delete", "nobody"]);
    near.failure(2, &["--delete", "PeerAuthentication/payments/default", "there is no nobody"]);
    // As kubectl takes names; or without the kind.
    for name in ["peerauthentications/payments/default", "payments/default"] {
        let said =
            diff(&bench, &["--delete", name]).failure(2, &["--delete", "did you mean one of"]).to_owned();
        assert!(said.contains("did you mean one of PeerAuthentication/payments/default"), "{said}");
    }
    let file = fixture("payments-disable.yaml");
    let both = ["-f", file.to_str().unwrap(), "--delete", "PeerAuthentication/payments/default"];
    diff(&bench, &both).failure(2, &["PeerAuthentication/payments/default is also applied by -f"]);
}

#[test]
fn a_replaced_object_keeps_its_age() {
    let bench = Bench::new();
    // The older rule for catalog decides; written anew without a date it is still the older one.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: catalog, namespace: bookshop}\n\
                spec: {host: catalog.bookshop.svc.cluster.local, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    fs::write(bench.path("rule.yaml"), rule).unwrap();
    let found = diff(&bench, &["-f", "rule.yaml", "-o", "json"]);
    let change = &found.json()["calls"][0]["changes"][0];
    assert_eq!(change["after"]["mode"], "SIMPLE", "{found:?}");
}

#[test]
fn a_change_may_come_from_stdin() {
    let bench = Bench::new();
    let file = fs::File::open(fixture("strict-mesh.yaml")).unwrap();
    let mut command = Command::new(programs::eastwest().unwrap());
    command.env_clear().stdin(Stdio::from(file)).args(["diff", "-f", "-", "-o", "json", "--config-dir"]);
    let found = command.arg(bench.manifests.dir()).output().unwrap();
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(String::from_utf8(found.stdout).unwrap(), apply(&bench, "strict-mesh", "json").out);
}

#[test]
fn what_is_refused_keeps_its_version_of_before() {
    let bench = Bench::new();
    copy(bench.manifests.dir(), &bench.path("after"));
    let file = bench.path("after/policies.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("mode: STRICT", "mode: strict", 1)).unwrap();
    let found = diff(&bench, &["--against", "after", "-o", "json"]);
    assert_eq!(found.code, 1, "{found:?}");
    let found = found.json();
    assert_eq!(found["findings"][0]["object"], "PeerAuthentication/payments/default");
    assert!(found["findings"][0]["message"].as_str().unwrap().ends_with("stays in force"));
    assert_eq!((&found["objects"], &found["calls"]), (&json!([]), &json!([])));
}

#[test]
fn wrong_usage_is_reported() {
    let bench = Bench::new();
    diff(&bench, &[]).failure(2, &["--filename", "--against"]);
    diff(&bench, &["--against", "manifests", "--delete", "x"]).failure(2, &["--against"]);
    diff(&bench, &["-f", "none.yaml"]).failure(2, &["-f", "none.yaml"]);
    bench.run(&["diff", "--config-dir", "none", "-f", "x"]).failure(2, &["none"]);
    bench.run(&["diff", "-f", "x"]).failure(2, &["--config-dir"]);
}
