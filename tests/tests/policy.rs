//! docs/POLICY.md names every rule, and only files, cases and tests that exist.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The letters of the rules and how many there are of each.
const RULES: &[(char, u8)] = &[('P', 10), ('I', 7), ('D', 11), ('T', 4), ('O', 9), ('A', 8), ('V', 3)];
/// Rules that are known gaps: no test holds them.
const GAPS: &[&str] = &["I7", "O9"];
const SHORT: &[(&str, &str)] = &[
    ("engine/", "control-plane/engine/src/"),
    ("sources/", "control-plane/sources/src/"),
    ("translate/", "control-plane/translate/src/"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The cells of every line of a table.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/POLICY.md")).unwrap();
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule "));
    let lines = lines.filter(|line| !line.starts_with("| quirk "));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of all test functions of the workspace.
fn tests() -> BTreeSet<String> {
    let mut open: Vec<PathBuf> =
        ["agent", "ca", "control-plane", "tests", "xds"].iter().map(|folder| root().join(folder)).collect();
    let mut names = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_of(&fs::read_to_string(path).unwrap()));
        }
    }
    names
}

/// The functions of a file that an attribute makes a test.
fn tests_of(source: &str) -> BTreeSet<String> {
    let after = source.split("#[test]").skip(1).chain(source.split("#[tokio::test").skip(1));
    let name = |text: &str| Some(text.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    after.filter_map(name).collect()
}

#[test]
fn every_rule_has_its_place_and_its_test() {
    let rows = rows();
    let tests = tests();
    let named: Vec<&str> = rows.iter().filter(|row| row.len() == 4).map(|row| row[0].as_str()).collect();
    let rules: Vec<String> =
        RULES.iter().flat_map(|(letter, most)| (1..=*most).map(move |at| format!("{letter}{at}"))).collect();
    assert_eq!(named, rules, "the rules, each once, in order");
    for row in &rows {
        let held_by: Vec<&str> = quoted(row.last().unwrap()).collect();
        assert_eq!(held_by.is_empty(), GAPS.contains(&row[0].as_str()), "{}: no test", row[0]);
        for name in held_by {
            let exists = match name.starts_with(|first: char| first.is_ascii_digit()) {
                true => root().join("tests/cases/tls").join(name).join("expect.json").exists(),
                false => tests.contains(name),
            };
            assert!(exists, "{}: there is no test or case {name}", row[0]);
        }
        for place in row.get(2).filter(|_| row.len() == 4).into_iter().flat_map(|cell| quoted(cell)) {
            let (short, long) = SHORT.iter().find(|(short, _)| place.starts_with(short)).unwrap();
            assert!(root().join(place.replacen(short, long, 1)).exists(), "{}: there is no {place}", row[0]);
        }
    }
}
