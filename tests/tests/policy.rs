//! docs/POLICY.md names every rule, and only files, cases and tests that exist.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use eastwest_tests::pages::{page, quoted, root, rows, tests};

/// The letters of the rules and how many there are of each.
const RULES: &[(char, u8)] = &[('P', 10), ('I', 7), ('D', 11), ('T', 4), ('O', 9), ('A', 8), ('V', 3)];
/// Rules that are known gaps: no test holds them.
const GAPS: &[&str] = &["I7"];
const SHORT: &[(&str, &str)] = &[
    ("engine/", "control-plane/engine/src/"),
    ("sources/", "control-plane/sources/src/"),
    ("translate/", "control-plane/translate/src/"),
];

#[test]
fn every_rule_has_its_place_and_its_test() {
    let rows = rows(&page("POLICY.md").unwrap(), &["rule", "quirk"]);
    let tests = tests().unwrap();
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
