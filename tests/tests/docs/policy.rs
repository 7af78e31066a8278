//! docs/POLICY.md: its rules, and the cases and tests that hold them.

use eastwest_tests::pages::{page, quoted, root, rows, tests};

/// The letters of the rules, in the order of the page.
const LETTERS: &[char] = &['P', 'I', 'D', 'T', 'O', 'A', 'L', 'V'];
/// Rules that are known gaps: no test holds them.
const GAPS: &[&str] = &["I7"];

#[test]
fn every_rule_has_its_place_and_its_test() {
    let page = page("POLICY.md").unwrap();
    let (rules, quirks) = (rows(&page, "rule"), rows(&page, "quirk"));
    let named: Vec<&str> = rules.iter().map(|row| row[0].as_str()).collect();
    let expected: Vec<String> = LETTERS
        .iter()
        .flat_map(|letter| {
            let most = named.iter().filter(|name| name.starts_with(*letter)).count();
            (1..=most).map(move |at| format!("{letter}{at}"))
        })
        .collect();
    assert_eq!(named, expected, "the rules, each once, in order");
    let tests = tests().unwrap();
    let exists = |name: &str| match name.starts_with(|first: char| first.is_ascii_digit()) {
        true => root().join("tests/cases/tls").join(name).join("expect.json").exists(),
        false => tests.contains(name),
    };
    super::check_rows(&rules, GAPS, |_, name| exists(name));
    assert!(!quirks.is_empty(), "there are no quirks");
    for row in &quirks {
        for name in quoted(row.last().unwrap()) {
            assert!(exists(name), "{}: there is no test or case {name}", row[0]);
        }
    }
}
