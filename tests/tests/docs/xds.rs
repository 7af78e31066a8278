//! docs/XDS.md: its rules, and the scenarios that play them.

use std::fs;

use eastwest_tests::pages::{page, root, rows, tests};

/// What is deliberately not served.
const GAPS: &[&str] = &["X48"];

#[test]
fn every_rule_has_its_place_and_its_test() {
    let rows = rows(&page("XDS.md").unwrap(), "rule");
    super::check_order(&rows, 'X');
    let tests = tests().unwrap();
    super::check_rows(&rows, GAPS, |rule, name| match name.ends_with(".txt") {
        true => plays(name, rule),
        false => tests.contains(name),
    });
}

/// Whether a file of scenarios has one for the rule.
fn plays(file: &str, rule: &str) -> bool {
    let text = fs::read_to_string(root().join("xds/tests/scenarios").join(file)).unwrap();
    text.lines().any(|line| line.starts_with(&format!("== {rule}:")))
}

#[test]
fn every_scenario_names_its_rule() {
    let rows = rows(&page("XDS.md").unwrap(), "rule");
    for entry in fs::read_dir(root().join("xds/tests/scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        for title in fs::read_to_string(&path).unwrap().lines().filter_map(|line| line.strip_prefix("== ")) {
            let (rule, _) = title.split_once(':').unwrap();
            let row = rows.iter().find(|row| row[0] == rule);
            assert!(
                row.is_some_and(|row| row[3].contains(&file)),
                "{file}: {title:?} is not in the row of its rule"
            );
        }
    }
}
