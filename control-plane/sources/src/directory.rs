//! What a directory of manifests says, from one look to the next: what is in force, and what changed.
//!
//! Rules:
//! - A file of which some document does not parse, or that cannot be read, keeps its last good content as a whole.
//! - An object that is refused keeps its own last good version; the rest of its file goes on.
//! - A file that is gone takes its objects along, unless it is the folder around it that cannot be read.
//! - An object that stands in several places is the first by path, then by order in the file. Saying the same twice is
//!   harmless; saying something else is an error that names both places.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_manifest::parse;
use eastwest_model::{Change, Diagnostic, MeshConfig, Name, Object, ObjectRef, Origin, Severity};

/// What a look at one file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing new, or nothing that could be believed yet.
    AsBefore,
    /// Its text.
    Text(String),
    /// Why it cannot be read.
    Unreadable(String),
}

/// What a look at the whole directory found, by path relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The manifests; a file that is not here is gone.
    pub(crate) files: BTreeMap<Name, Reading>,
    /// Folders that cannot be read and why; the root is the empty path. Nobody knows what is in them.
    pub(crate) closed: BTreeMap<Name, String>,
}

impl Look {
    fn is_closed(&self, file: &str) -> bool {
        let below = |folder: &Name| {
            folder.is_empty() || file.strip_prefix(&**folder).is_some_and(|rest| rest.starts_with('/'))
        };
        self.closed.keys().any(below)
    }
}

/// The directory as last known.
#[derive(Debug)]
pub(crate) struct Directory {
    defaults: MeshConfig,
    files: BTreeMap<Name, File>,
    closed: BTreeMap<Name, String>,
    in_force: BTreeMap<ObjectRef, Object>,
    diagnostics: Vec<Diagnostic>,
}

/// A file as last known.
#[derive(Debug, Default)]
struct File {
    /// Its last good content, in order.
    objects: Vec<Object>,
    /// What is wrong with it now.
    diagnostics: Vec<Diagnostic>,
}

impl Directory {
    /// An empty directory.
    pub(crate) fn new(defaults: MeshConfig) -> Self {
        let (files, closed) = (BTreeMap::new(), BTreeMap::new());
        Self { defaults, files, closed, in_force: BTreeMap::new(), diagnostics: Vec::new() }
    }

    /// Everything that is wrong or surprising now, errors first.
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Takes in a look and tells what it changed.
    pub(crate) fn update(&mut self, look: Look) -> Vec<Change> {
        let known = self.files.len();
        self.files.retain(|name, _| look.files.contains_key(name) || look.is_closed(name));
        let mut stale = known != self.files.len() || self.closed != look.closed;
        for (name, reading) in look.files {
            stale |= reading != Reading::AsBefore;
            self.files.entry(name.clone()).or_default().update(&name, reading, &self.defaults);
        }
        self.closed = look.closed;
        if stale { self.merge() } else { Vec::new() }
    }

    /// Puts the files together; the first of several equal names wins.
    fn merge(&mut self) -> Vec<Change> {
        let mut merged: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        let mut diagnostics: Vec<_> =
            self.closed.iter().map(|(folder, reason)| unreadable(folder, reason)).collect();
        for file in self.files.values() {
            diagnostics.extend(file.diagnostics.iter().cloned());
            for object in &file.objects {
                match merged.get(object.reference()) {
                    Some(first) if first.says_the_same(object) => {}
                    Some(first) => diagnostics.push(duplicate(object, first)),
                    None => drop(merged.insert(object.reference().clone(), object.clone())),
                }
            }
        }
        diagnostics.sort();
        self.diagnostics = diagnostics;
        let before = std::mem::replace(&mut self.in_force, merged);
        let gone = before.keys().filter(|reference| !self.in_force.contains_key(reference));
        let gone = gone.map(|reference| Change::Delete(reference.clone()));
        let new = self.in_force.iter().filter(|(reference, object)| before.get(reference) != Some(object));
        gone.chain(new.map(|(_, object)| Change::Upsert(object.clone()))).collect()
    }
}

impl File {
    fn update(&mut self, name: &Name, reading: Reading, defaults: &MeshConfig) {
        let text = match reading {
            Reading::AsBefore => return,
            Reading::Text(text) => text,
            Reading::Unreadable(reason) => return self.diagnostics = vec![unreadable(name, &reason)],
        };
        let mut parsed = parse::documents(&text, name, defaults);
        let before = std::mem::take(&mut self.objects);
        let kept: Vec<Object> = if parsed.broken {
            before
        } else {
            before.into_iter().filter(|object| parsed.refused.contains(object.reference())).collect()
        };
        let stay: BTreeSet<String> = kept.iter().map(|object| object.reference().to_string()).collect();
        for diagnostic in parsed.diagnostics.iter_mut().filter(|d| d.severity == Severity::Error) {
            let of_file = parsed.broken && diagnostic.object == **name;
            if stay.contains(&diagnostic.object) || of_file && !stay.is_empty() {
                diagnostic.message.push_str("; what was good before stays in force");
            }
        }
        // Without a last good content, what can be read of a broken file is better than nothing.
        self.objects = if parsed.broken && !kept.is_empty() { kept } else { [parsed.objects, kept].concat() };
        self.diagnostics = parsed.diagnostics;
    }
}

/// A file or folder that cannot be read; whatever it said before stays in force.
fn unreadable(path: &Name, reason: &str) -> Diagnostic {
    let path = if path.is_empty() { Name::from(".") } else { path.clone() };
    Diagnostic {
        severity: Severity::Error,
        object: path.to_string(),
        origin: Origin { file: Some(path), line: None },
        field: String::new(),
        message: format!("cannot be read: {reason}"),
        beaten_by: None,
    }
}

fn duplicate(object: &Object, first: &Object) -> Diagnostic {
    let (here, there) = (&object.meta().origin, &first.meta().origin);
    Diagnostic {
        severity: Severity::Error,
        object: object.reference().to_string(),
        origin: here.clone(),
        field: "metadata.name".to_owned(),
        message: format!(
            "is ignored here ({here}): the object also stands, otherwise, at {there}; keep one of them"
        ),
        beaten_by: None,
    }
}

#[cfg(test)]
mod tests;
