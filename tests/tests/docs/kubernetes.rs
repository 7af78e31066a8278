//! docs/KUBERNETES.md names every kind that is followed, and only tests that exist.

use eastwest_kubernetes::{CONFIG_MAP, DEFINITIONS, RESOURCES, SECRET};
use eastwest_tests::pages::{page, quoted, rows, tests};

#[test]
fn the_page_has_every_kind_and_names_tests_that_exist() {
    let page = page("KUBERNETES.md").unwrap();
    let (kinds, rest) = page.split_once("## Steps").unwrap();
    let (_, kinds) = kinds.split_once("## Kinds").unwrap();
    let all = RESOURCES.iter().chain([CONFIG_MAP, SECRET, DEFINITIONS]);
    for resource in all {
        let row = format!("| {} | `{}` |", resource.kind, resource.name());
        assert!(kinds.contains(&row), "there is no row {row}");
    }
    let tests = tests().unwrap();
    let rows: Vec<_> =
        ["step", "fault", "trap", "written"].iter().flat_map(|head| rows(rest, head)).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        let held_by = row.last().unwrap();
        let names: Vec<_> = quoted(held_by).collect();
        assert!(!names.is_empty(), "{}: no test", row[0]);
        for name in names {
            assert!(tests.contains(name), "{}: there is no test {name}", row[0]);
        }
    }
}
