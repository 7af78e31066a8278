//! docs/AUTHORIZATION.md: its rules, and the cases and tests that hold them.

use eastwest_tests::pages::{page, root, rows, tests};

#[test]
fn every_rule_has_its_place_and_its_test() {
    let rules = rows(&page("AUTHORIZATION.md").unwrap(), "rule");
    super::check_order(&rules, 'Z');
    let tests = tests().unwrap();
    super::check_rows(&rules, &[], |_, name| match name.starts_with(|first: char| first.is_ascii_digit()) {
        true => root().join("tests/cases/authz").join(name).join("expect.json").exists(),
        false => tests.contains(name),
    });
}
