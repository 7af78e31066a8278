//! Citations in the code, such as `XDS.md X46`, name rules that exist.

use std::{collections::BTreeMap, fs};

use eastwest_tests::pages::{is_rule, page, quoted, root, rules, rust_files};

/// Pages with numbered rules.
const PAGES: [&str; 7] =
    ["AUTHORIZATION.md", "CA.md", "ENVOY.md", "POLICY.md", "SECURITY.md", "TRAFFIC.md", "XDS.md"];
/// Folders with code of the workspace.
const FOLDERS: [&str; 8] = ["agent", "ca", "control-plane", "fuzz", "proto", "tests", "xds", "xtask"];

/// A page that a text names, and the rules that follow the name.
#[derive(Debug, PartialEq, Eq)]
struct Citation {
    page: String,
    rules: Vec<String>,
}

/// All citations of a text. A comment may break between the page and its rules.
fn citations(source: &str) -> Vec<Citation> {
    let lines = source.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
    let text = lines.collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(".md") {
        let (before, after) = (&text[..at], &text[at + ".md".len()..]);
        if after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_') {
            continue;
        }
        let joins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
        let name = before.rsplit(|c: char| !joins(c)).next().unwrap_or_default();
        if !name.is_empty() {
            found.push(Citation { page: format!("{name}.md"), rules: numbers(after) });
        }
    }
    found
}

/// The rules at the beginning of a text: `X1`, `X1, X2 and X4 to X6`.
fn numbers(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words = text.strip_prefix(' ').unwrap_or_default().split(' ');
    for word in words {
        let number = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
        if is_rule(number) {
            found.push(number.to_owned());
        } else if !matches!(word, "to" | "and") {
            break;
        }
        if word.len() > number.len() && !word.ends_with(',') {
            break;
        }
    }
    found
}

#[test]
fn citations_are_read() {
    let cited = |text: &str| {
        let found = citations(text).into_iter();
        found.map(|one| (one.page, one.rules.join(" "))).collect::<Vec<_>>()
    };
    let one = |page: &str, rules: &str| vec![(page.to_owned(), rules.to_owned())];
    assert_eq!(cited("/// A (XDS.md X46)."), one("XDS.md", "X46"));
    assert_eq!(cited("//! A (CA.md\n//! S1 to S19, A5a; and)"), one("CA.md", "S1 S19 A5a"));
    assert_eq!(cited("// See docs/CA.md for its form."), one("docs/CA.md", ""));
    assert_eq!(cited("/// NOWHERE.md rule 4"), one("NOWHERE.md", ""));
    assert_eq!(cited("a.mdx, .md"), []);
}

#[test]
fn every_citation_names_a_rule_of_a_page() {
    let known: BTreeMap<_, _> = PAGES.iter().map(|name| (*name, rules(&page(name).unwrap()))).collect();
    let (mut cited, mut wrong) = (0, Vec::new());
    for path in FOLDERS.iter().flat_map(|folder| rust_files(&root().join(folder)).unwrap()) {
        if path.ends_with("docs/citations.rs") {
            continue;
        }
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        for citation in citations(&fs::read_to_string(&path).unwrap()) {
            let page = citation.page.strip_prefix("docs/").unwrap_or(&citation.page);
            if !root().join("docs").join(page).exists() && !root().join(page).exists() {
                wrong.push(format!("{place}: there is no page {}", citation.page));
            }
            for rule in citation.rules {
                cited += 1;
                if !known.get(page).is_some_and(|rules| rules.contains(&rule)) {
                    wrong.push(format!("{place}: {page} has no rule {rule}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cited > 150, "only {cited} citations");
}

/// Paths from the root of the workspace that pages name in their text; those of tables of rules are checked with the rules.
#[test]
fn every_path_of_a_page_exists() {
    let mut missing = Vec::new();
    for file in fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let is_path =
            |text: &&str| (text.contains("/src/") || text.starts_with("tests/tests/")) && !text.contains(' ');
        let paths = quoted(&text).filter(is_path).filter(|path| !root().join(path).exists());
        missing.extend(paths.map(|path| format!("{}: {path}", file.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
