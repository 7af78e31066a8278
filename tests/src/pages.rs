//! Pages of docs/ with tables of rules: their rows, and the places and tests that a row names.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Folders whose Rust files hold tests.
const FOLDERS: [&str; 5] = ["agent", "ca", "control-plane", "tests", "xds"];

/// Crates by the name that pages give them, and their sources.
const CRATES: [(&str, &str); 15] = [
    ("agent", "agent/src"),
    ("redirect", "agent/redirect/src"),
    ("ca", "ca/src"),
    ("ca-server", "ca/server/src"),
    ("eastwest", "control-plane/src"),
    ("engine", "control-plane/engine/src"),
    ("identity", "ca/identity/src"),
    ("io", "ca/io/src"),
    ("manifest", "control-plane/manifest/src"),
    ("model", "control-plane/model/src"),
    ("sources", "control-plane/sources/src"),
    ("tests", "tests/src"),
    ("translate", "control-plane/translate/src"),
    ("xds", "xds/src"),
    ("xds-server", "xds/server/src"),
];

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

/// The cells of all rows of the tables whose first column is headed `head`.
pub fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let cells = cells(line);
        if !line.starts_with('|') {
            inside = false;
        } else if !inside {
            inside = cells.first().is_some_and(|cell| cell == head);
        } else if !line.starts_with("|-") {
            rows.push(cells);
        }
    }
    rows
}

/// The cells of a line of a table; `\|` is a bar inside a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\0");
    line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

/// The numbers of all rules of a page: first cells of its tables that are a capital letter and a number, such as `X46`
/// or `A5a`.
pub fn rules(page: &str) -> BTreeSet<String> {
    let first = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    first.map(|(cell, _)| cell.to_owned()).filter(|cell| is_rule(cell)).collect()
}

/// Whether a text is the number of a rule.
pub fn is_rule(text: &str) -> bool {
    let Some(number) = text.strip_prefix(|first: char| first.is_ascii_uppercase()) else { return false };
    let digits = number.strip_suffix(|last: char| last.is_ascii_lowercase()).unwrap_or(number);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands in backticks.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a place exists: a crate and the end of a path in its sources, such as `xds/stream.rs`, or a path from the
/// root of the workspace.
///
/// # Errors
/// A folder that cannot be read.
pub fn place_exists(place: &str) -> io::Result<bool> {
    let (name, end) = place.split_once('/').unwrap_or((place, ""));
    let Some((_, sources)) = CRATES.iter().find(|(known, _)| *known == name) else {
        return Ok(root().join(place).exists());
    };
    let sources = root().join(sources);
    let found = below(&sources)?.iter().any(|path| path.ends_with(end));
    Ok(found || sources.join(end).exists())
}

/// All files and folders below a folder, but not those of builds.
///
/// # Errors
/// A folder that cannot be read.
pub fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut open = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let hidden = |name: &str| name == "target" || name.starts_with('.');
            if path.file_name().and_then(|name| name.to_str()).is_some_and(hidden) {
                continue;
            }
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    Ok(found)
}

/// The Rust files below a folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let files = below(folder)?.into_iter();
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect())
}

/// The names of all test functions of the workspace.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn tests() -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in FOLDERS {
        for path in rust_files(&root().join(folder))? {
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
