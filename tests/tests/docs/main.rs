//! Pages of docs/ are held against the repository: each rule is there, each place and test that a page names exists, and
//! each citation in the code names a rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authorization;
mod ca;
mod citations;
mod envoy;
mod kubernetes;
mod policy;
mod security;
mod traffic;
mod xds;

use std::collections::BTreeSet;

use eastwest_tests::pages::{place_exists, quoted};

/// Checks the rows of tables with the columns rule, meaning, where, held by. `held` says whether a name of the last
/// column exists; rules of `gaps` are held by none.
fn check_rows(rows: &[Vec<String>], gaps: &[&str], held: impl Fn(&str, &str) -> bool) {
    for row in rows {
        let [rule, _, places, held_by] = &row[..] else { panic!("{row:?}: four cells, not {}", row.len()) };
        let gap = gaps.contains(&rule.as_str());
        assert_eq!(quoted(held_by).next().is_none(), gap, "{rule}: a test, or a known gap");
        for place in quoted(places) {
            assert!(place_exists(place).unwrap(), "{rule}: there is no {place}");
        }
        for name in quoted(held_by) {
            assert!(held(rule, name), "{rule}: there is no test {name}");
        }
    }
}

/// Checks that the rules are `letter` and the numbers from 1, each once and in order.
fn check_order(rows: &[Vec<String>], letter: char) {
    let named: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    let expected: Vec<_> = (1..=rows.len()).map(|number| format!("{letter}{number}")).collect();
    assert_eq!(named, expected, "each rule once, in order");
    assert!(!rows.is_empty(), "there are no rules");
}

/// A test for pages whose tests are all functions of the workspace.
fn among(tests: &BTreeSet<String>) -> impl Fn(&str, &str) -> bool {
    |_, name| tests.contains(name)
}
