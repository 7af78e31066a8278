//! docs/SECURITY.md: the places of its limits are there.

use eastwest_tests::pages::{page, place_exists, quoted, rows};

#[test]
fn each_limit_has_its_place() {
    let page = page("SECURITY.md").unwrap();
    let rows = rows(&page, "what");
    assert!(rows.len() > 8, "{rows:?}");
    for row in rows {
        for place in quoted(&row[2]) {
            assert!(place_exists(place).unwrap(), "{}: there is no {place}", row[0]);
        }
    }
}
