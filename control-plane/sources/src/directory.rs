//! A directory of manifests, from one look to the next: which files say something else than before.
//!
//! What their objects come to is decided by [`eastwest_manifest::merge`]. Only the rule of folders is here: a file that
//! is gone takes its objects along, unless it is the folder around it that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_manifest::{
    merge::Update,
    parse::{self, Parsed},
};
use eastwest_model::{Diagnostic, MeshConfig, Name, Origin, Severity};

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
    /// Folders that cannot be read and why; the root is the empty path. Their content is unknown.
    pub(crate) closed: BTreeMap<Name, String>,
    /// Folders that are left out and why.
    pub(crate) left_out: BTreeMap<Name, String>,
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
    files: BTreeMap<Name, Content>,
    closed: BTreeMap<Name, String>,
    left_out: BTreeMap<Name, String>,
}

/// What was last known of a file.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Parsed(Parsed),
    Unreadable(String),
}

/// A file is taken in with those around it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Waits;

/// Whether everything that a file says is in force.
fn is_plain(parsed: &Parsed) -> bool {
    let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
    parsed.refused.is_empty() && parsed.broken.is_empty() && !parsed.diagnostics.iter().any(is_error)
}

impl Directory {
    /// An empty directory.
    pub(crate) fn new(defaults: MeshConfig) -> Self {
        Self { defaults, files: BTreeMap::new(), closed: BTreeMap::new(), left_out: BTreeMap::new() }
    }

    /// Takes in a look and returns what it found to be different.
    pub(crate) fn update(&mut self, look: Look) -> Vec<Update> {
        let is_gone = |file: &Name| !look.files.contains_key(file) && !look.is_closed(file);
        let gone: Vec<_> = self.files.extract_if(.., |file, _| is_gone(file)).map(|(file, _)| file).collect();
        let mut updates: Vec<_> = gone.into_iter().map(Update::Gone).collect();
        if (&self.closed, &self.left_out) != (&look.closed, &look.left_out) {
            let closed = look.closed.iter().map(|(folder, reason)| unreadable(folder, reason));
            let left_out = look.left_out.iter().map(|(folder, reason)| is_left_out(folder, reason));
            updates.push(Update::Problems(closed.chain(left_out).take(TOLD).collect()));
            (self.closed, self.left_out) = (look.closed, look.left_out);
        }
        for (file, reading) in look.files {
            updates.extend(self.read(file, reading));
        }
        updates
    }

    /// Takes in one known file before the others are looked at. `Err` if it has to wait for them: it says something that
    /// is refused, or no longer states all that it did, which another file may state by now.
    pub(crate) fn take(&mut self, file: &Name, text: &str) -> Result<Option<Update>, Waits> {
        let Some(Content::Parsed(before)) = self.files.get(file) else { return Err(Waits) };
        let parsed = parse::documents(text, file, &self.defaults);
        let names = |parsed: &Parsed| -> BTreeSet<_> {
            parsed.objects.iter().map(|object| object.meta().object.clone()).collect()
        };
        if !is_plain(before) || !is_plain(&parsed) || !names(&parsed).is_superset(&names(before)) {
            return Err(Waits);
        }
        if *before == parsed {
            return Ok(None);
        }
        self.files.insert(file.clone(), Content::Parsed(parsed.clone()));
        Ok(Some(Update::File { file: file.clone(), parsed }))
    }

    fn read(&mut self, file: Name, reading: Reading) -> Option<Update> {
        let content = match reading {
            Reading::AsBefore => return None,
            Reading::Text(text) => Content::Parsed(parse::documents(&text, &file, &self.defaults)),
            Reading::Unreadable(reason) => Content::Unreadable(reason),
        };
        if self.files.get(&file) == Some(&content) {
            return None;
        }
        let update = match &content {
            Content::Parsed(parsed) => Update::File { file: file.clone(), parsed: parsed.clone() },
            Content::Unreadable(reason) => {
                Update::Unreadable { problem: unreadable(&file, reason), file: file.clone() }
            }
        };
        self.files.insert(file, content);
        Some(update)
    }
}

/// The most folders that are told of.
const TOLD: usize = 500;

/// A folder that is passed over.
fn is_left_out(path: &Name, reason: &str) -> Diagnostic {
    let message = format!("is left out: {reason}");
    Diagnostic { severity: Severity::Warning, message, ..unreadable(path, reason) }
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
        effect: None,
    }
}

#[cfg(test)]
mod tests;
