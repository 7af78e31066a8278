//! docs/CA.md: its sections, its rules, and every row of its checklists.

use eastwest_tests::pages::{page, quoted, rows, tests};

const SECTIONS: &[&str] = &[
    "Rules",
    "What a certificate contains",
    "Proofs of identity",
    "Roots and rotation",
    "Trust bundles and Workload API",
    "Ledger",
    "Metrics",
    "Readiness",
    "Defects",
    "Limits",
    "Among programs of others",
    "Checklists",
];
/// Rows of the SPIFFE checklist.
const SPIFFE: u8 = 65;
/// The attacks, but those of our own finding, which follow.
const ATTACKS: &[&str] = &[
    "A1", "A2", "A3", "A4", "A5", "A5a", "A6", "A7", "A8", "A8a", "A9", "A10", "A11", "A12", "A13", "A14",
    "A15", "A16", "A17", "A18", "A19", "A20", "A21", "A22", "A23", "A24", "A25", "A26",
];

#[test]
fn the_page_has_its_sections() {
    let page = page("CA.md").unwrap();
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, SECTIONS);
}

#[test]
fn every_rule_has_its_place_and_its_test() {
    let rules = rows(&page("CA.md").unwrap(), "rule");
    super::check_order(&rules, 'C');
    super::check_rows(&rules, &[], super::among(&tests().unwrap()));
}

#[test]
fn every_row_of_the_checklists_has_its_test() {
    let rows = rows(&page("CA.md").unwrap(), "row");
    let named: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    let known = (1..=SPIFFE).map(|row| format!("S{row}")).chain(ATTACKS.iter().map(|&row| row.to_owned()));
    let known: Vec<_> = known.collect();
    assert_eq!(named[..known.len().min(named.len())], known, "the known rows, each once, in order");
    for (at, row) in named[known.len()..].iter().enumerate() {
        assert_eq!(*row, format!("B{}", at + 1), "rows of our own follow in order");
    }
    let tests = tests().unwrap();
    for row in &rows {
        let [_, _, _, held_by] = &row[..] else { panic!("{}: four cells, not {}", row[0], row.len()) };
        let names: Vec<_> = quoted(held_by).collect();
        assert_eq!(names.is_empty(), held_by.starts_with("open"), "{}: a test, or `open`", row[0]);
        for name in names {
            assert!(tests.contains(name), "{}: there is no test {name}", row[0]);
        }
    }
}
