//! docs/ENVOY.md: its facts, and the tests that rely on them.

use eastwest_tests::pages::{page, rows, tests};

#[test]
fn every_fact_has_its_place_and_its_test() {
    let rows = rows(&page("ENVOY.md").unwrap(), "rule");
    super::check_order(&rows, 'E');
    super::check_rows(&rows, &[], super::among(&tests().unwrap()));
}
