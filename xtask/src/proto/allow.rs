//! The list of messages and services to keep: `proto/messages.txt`.

use std::collections::BTreeSet;

use anyhow::bail;

/// Full names of the messages and services to keep, and their packages.
#[derive(Debug, Default)]
pub(super) struct AllowList {
    names: BTreeSet<String>,
    packages: BTreeSet<String>,
}

impl AllowList {
    /// Reads the list: a package in column one, or `-` for none, its messages and services indented below.
    ///
    /// # Errors
    /// A name before any package, or a name given twice, with its line number.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut list = Self::default();
        let mut package = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            if !line.starts_with(char::is_whitespace) {
                if !line.is_empty() {
                    let name = line.trim().trim_start_matches('-');
                    package = Some(name);
                    list.packages.insert(name.to_owned());
                }
                continue;
            }
            for name in line.split_whitespace() {
                let Some(package) = package else {
                    bail!("line {}: `{name}` stands before any package", index + 1);
                };
                let name = full_name(package, name);
                if !list.names.insert(name.clone()) {
                    bail!("line {}: `{name}` is named twice", index + 1);
                }
            }
        }
        Ok(list)
    }

    /// Whether a message or service of this full name (`package.Outer.Inner`) stays.
    pub(super) fn keeps(&self, full_name: &str) -> bool {
        self.names.contains(full_name)
    }

    /// Whether anything of this package stays.
    pub(super) fn has_package(&self, package: &str) -> bool {
        self.packages.contains(package)
    }

    /// Names that are not in `seen`: mistyped, or removed from the API.
    pub(super) fn missing_from<'a>(&'a self, seen: &BTreeSet<String>) -> Vec<&'a str> {
        let unseen = self.names.iter().filter(|name| !seen.contains(*name));
        unseen.map(String::as_str).collect()
    }
}

/// `package.name`, or the name alone in no package.
pub(super) fn full_name(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_names_belong_to_the_package_above() {
        let list = AllowList::parse("# head\na.v1\n  M M.N # tail\n\nb.v1\n  M\n").unwrap();
        assert!(list.keeps("a.v1.M") && list.keeps("a.v1.M.N") && list.keeps("b.v1.M"));
        assert!(!list.keeps("b.v1.M.N"));
        assert!(list.has_package("b.v1") && !list.has_package("c.v1"));
    }

    #[test]
    fn a_dash_stands_for_no_package() {
        let list = AllowList::parse("-\n  M M.N\n").unwrap();
        assert!(list.keeps("M") && list.keeps("M.N") && list.has_package(""));
    }

    #[test]
    fn errors_name_the_line() {
        let error = AllowList::parse("\n  M\n").unwrap_err().to_string();
        assert_eq!(error, "line 2: `M` stands before any package");
        let error = AllowList::parse("a.v1\n  M\n  M").unwrap_err().to_string();
        assert_eq!(error, "line 3: `a.v1.M` is named twice");
    }
}
