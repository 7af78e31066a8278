//! docs/TRAFFIC.md: its rules, and the tests that hold them.

use eastwest_tests::pages::{page, rows, tests};

/// The letters of the rules, in the order of the page.
const LETTERS: &[char] = &['M', 'B', 'R', 'V'];

#[test]
fn every_rule_of_traffic_has_its_place_and_its_test() {
    let page = page("TRAFFIC.md").unwrap();
    let all = rows(&page, "rule");
    let tests = tests().unwrap();
    super::check_rows(&all, &[], super::among(&tests));
    let mut checked = 0;
    for letter in LETTERS {
        let of_letter: Vec<_> = all.iter().filter(|row| row[0].starts_with(*letter)).cloned().collect();
        super::check_order(&of_letter, *letter);
        checked += of_letter.len();
    }
    assert_eq!(checked, all.len(), "every rule has a letter of the page");
}
