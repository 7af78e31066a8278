//! The list of what a new policy kind touches is complete: no other file of the program names a policy kind.

use std::{fs, path::Path};

use super::root;

/// The kind that stands for all.
const SAMPLE: &str = "PeerAuthentication";
/// The most files that a kind may touch, tests and docs included, besides what decides by it.
const MOST: usize = 8;
/// What decides by a policy, and the text about that, is its own.
const DECISIONS: &[&str] =
    &["control-plane/engine/src/compute", "control-plane/engine/src/lint", "control-plane/engine/src/trace"];

/// The table of resources that are watched. It has every resource of Istio that is followed, also those that are no kind
/// here yet, so that a new kind does not touch it; and the crate of random worlds, which belongs to the tests.
const APART: &[&str] = &["control-plane/kubernetes/src/kinds.rs", "control-plane/testing/src/lib.rs"];

/// The paths of the line for a policy kind in docs/ARCHITECTURE.md.
fn listed() -> Vec<String> {
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let line = map.lines().find(|line| line.starts_with("| a policy kind |")).unwrap();
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The files below `folder` with code, tests left out, that names the sample.
fn naming(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir()
            && !["target", "tests", "benches", "docs", "fuzz"].contains(&name)
            && !name.starts_with('.')
        {
            naming(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if code.any(|line| line.contains(SAMPLE)) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn a_policy_kind_is_named_in_the_listed_files_alone() {
    let listed = listed();
    assert!(!listed.is_empty() && listed.len() <= MOST, "{} files: {listed:?}", listed.len());
    let mut found = Vec::new();
    naming(root(), &mut found);
    assert!(found.len() > 5, "{found:?}");
    let is_allowed = |path: &String| {
        listed.contains(path)
            || APART.contains(&path.as_str())
            || DECISIONS.iter().any(|folder| path.starts_with(&format!("{folder}/")))
    };
    let others: Vec<_> = found.into_iter().filter(|path| !is_allowed(path)).collect();
    assert!(
        others.is_empty(),
        "{SAMPLE} is named beside the files that docs/ARCHITECTURE.md lists: {others:?}"
    );
}
