//! Circles among the modules of a package, found by reading its paths. No parser: the house's style is regular enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The names that lead from the root of a crate to a module or an item.
pub(crate) type Names = Vec<String>;

/// What a module's code says, by the module's names.
pub(crate) type Texts = BTreeMap<Names, String>;

/// A circle among the modules below `src`, as `a → b → a`, if there is one.
///
/// The rule: the children of a module, each with all that lies below it, form no circle, while parents and children
/// may know each other. What counts are paths from `crate::` and `super::`, followed through what a parent re-exports.
/// Tests and generated code do not count.
pub(crate) fn circle(src: &Path) -> Option<String> {
    let texts = code(src);
    let exports = exports(&texts);
    let mut families: BTreeMap<Names, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, text) in &texts {
        for path in references(module, text) {
            let used = home(path, &exports, &texts);
            let common = module.iter().zip(&used).take_while(|(ours, theirs)| ours == theirs).count();
            if let (Some(user), Some(used)) = (module.get(common), used.get(common)) {
                let children = families.entry(module[..common].to_vec()).or_default();
                children.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    families.into_iter().find_map(|(parent, children)| {
        let way = way_round(children)?;
        let names: Vec<_> = way.into_iter().map(|name| joined(&parent, &[name]).join("::")).collect();
        Some(names.join(" → "))
    })
}

/// The code of every module below `src`, without comments and tests.
pub(crate) fn code(src: &Path) -> Texts {
    let mut texts = Texts::new();
    read(src, &mut Names::new(), &mut texts);
    assert!(!texts.is_empty(), "no source in {}", src.display());
    texts
}

/// Every module below `folder`, which is `module`, without comments and tests.
fn read(folder: &Path, module: &mut Names, texts: &mut Texts) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["tests", "gen"].contains(&name.as_str()) {
            continue;
        }
        let depth = module.len();
        if !["lib", "main", "mod"].contains(&name.as_str()) {
            module.push(name);
        }
        if path.is_dir() {
            read(&path, module, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            texts.insert(module.clone(), code.collect::<Vec<_>>().join("\n"));
        }
        module.truncate(depth);
    }
}

/// Where the names come from that a module re-exports from its children.
fn exports(texts: &Texts) -> BTreeMap<Names, Names> {
    let mut exports = BTreeMap::new();
    for (module, text) in texts {
        let uses = ["pub use ", "pub(crate) use ", "pub(super) use "];
        for tree in uses.iter().flat_map(|start| text.split(start).skip(1)) {
            for path in branches(&mut &*tree) {
                let name = joined(module, &path[path.len() - 1..]);
                if path.len() > 1 && !texts.contains_key(&name) {
                    exports.insert(name, joined(module, &path));
                }
            }
        }
    }
    exports
}

/// The paths in the text of `module` that start at the root or at a parent, as seen from the root.
fn references(module: &[String], text: &str) -> Vec<Names> {
    let mut found = Vec::new();
    for (at, start) in text.match_indices("crate::") {
        found.extend(branches(&mut &text[at + start.len()..]));
    }
    for (at, start) in text.match_indices("super::").filter(|(at, _)| !text[..*at].ends_with("super::")) {
        let (mut base, mut rest) = (module, &text[at..]);
        while let Some(after) = rest.strip_prefix(start) {
            (base, rest) = (&base[..base.len().saturating_sub(1)], after);
        }
        found.extend(branches(&mut rest).iter().map(|path| joined(base, path)));
    }
    found
}

/// The paths of a tree such as `a::{b, c::d}`; `rest` is what comes after it.
fn branches(rest: &mut &str) -> Vec<Names> {
    if let Some(inside) = rest.strip_prefix('{') {
        let mut found = Vec::new();
        *rest = inside.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            found.extend(branches(rest));
            // What is left of `name as other` and `*`.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            *rest = rest[end..].trim_start_matches(',').trim_start();
        }
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        return found;
    }
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
    let name = [rest[..end].to_owned()];
    *rest = &rest[end..];
    match rest.strip_prefix("::") {
        None => vec![name.to_vec()],
        Some(after) => {
            *rest = after;
            branches(rest).iter().map(|path| joined(&name, path)).collect()
        }
    }
}

/// The module that `path` leads to or into.
fn home(mut path: Names, exports: &BTreeMap<Names, Names>, texts: &Texts) -> Names {
    while let Some((length, real)) =
        (1..=path.len()).find_map(|length| Some((length, exports.get(&path[..length])?)))
    {
        path = joined(real, &path[length..]);
    }
    while !texts.contains_key(&path) && path.pop().is_some() {}
    path
}

/// A way through `uses` that ends where it begins.
fn way_round(mut uses: BTreeMap<String, BTreeSet<String>>) -> Option<Names> {
    let mut before = usize::MAX;
    while uses.len() < before {
        before = uses.len();
        let users: BTreeSet<String> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|used| used.retain(|name| users.contains(name)));
        uses.retain(|_, used| !used.is_empty());
    }
    // From each module that is left, another one that is left is used: going on must lead back.
    let mut way = vec![uses.keys().next()?.clone()];
    loop {
        let next = uses[way.last()?].first()?.clone();
        let begin = way.iter().position(|name| *name == next);
        way.push(next);
        if let Some(begin) = begin {
            return Some(way.split_off(begin));
        }
    }
}

fn joined(parent: &[String], path: &[String]) -> Names {
    [parent, path].concat()
}

#[test]
fn trees_of_paths_are_read() {
    let found = references(
        &["a".into(), "b".into()],
        "use crate::{self, x::{y, z as w}, *};\nuse super::c::D;\nsuper::super::e::f()",
    );
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["self", "x::y", "x::z", "", "a::c::D", "e::f"]);
}

#[test]
fn a_circle_is_seen_through_a_parent_that_re_exports() {
    let src = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(src.path().join(name), text).unwrap();
    fs::create_dir(src.path().join("upper")).unwrap();
    write("lib.rs", "mod lower;\nmod upper;\npub use upper::{Item, Other};");
    write("upper/mod.rs", "mod child;\npub use child::Item;\nuse crate::lower;\npub struct Other;");
    write("upper/child.rs", "use super::Other;\npub struct Item;");
    write("lower.rs", "//! Like crate::Item.\n#[cfg(test)]\nmod tests {\n    use crate::Item;\n}");
    assert_eq!(circle(src.path()), None, "a parent and its child, a comment, a test");
    write("lower.rs", "use crate::Item;");
    assert_eq!(circle(src.path()).unwrap(), "lower → upper → lower");
}
