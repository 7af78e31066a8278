//! Pages of docs/ that name tests: their tables, and the tests that there are.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Folders whose Rust files hold tests.
const FOLDERS: [&str; 5] = ["agent", "ca", "control-plane", "tests", "xds"];

/// The root folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The text of a page below docs/.
///
/// # Errors
/// There is no such page.
pub fn page(name: &str) -> io::Result<String> {
    fs::read_to_string(root().join("docs").join(name))
}

/// The cells of every line of a table, but not those of its head, which begins with one of `heads`.
pub fn rows(page: &str, heads: &[&str]) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let cells =
        lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    cells.filter(|row: &Vec<String>| !heads.contains(&row[0].as_str())).collect()
}

/// What stands in backticks.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of all test functions of the workspace.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn tests() -> io::Result<BTreeSet<String>> {
    let mut open: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    let mut names = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                open.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_of(&fs::read_to_string(path)?));
        }
    }
    Ok(names)
}

/// The functions of a file that an attribute makes a test.
fn tests_of(source: &str) -> BTreeSet<String> {
    let after = source.split("#[test]").skip(1).chain(source.split("#[tokio::test").skip(1));
    let name = |text: &str| Some(text.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    after.filter_map(name).collect()
}
