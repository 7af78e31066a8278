//! The manifests as they are, and the change that is asked about.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use eastwest_manifest::parse;
use eastwest_model::{Change, Diagnostic, MeshConfig, Object, ObjectRef};
use eastwest_sources::Loaded;
use serde::Serialize;

use crate::config::Problems;

/// What is, and what somebody thinks of doing.
#[derive(Debug)]
pub(super) struct Proposal {
    /// Builds the world as it is.
    pub(super) before: Vec<Change>,
    /// Leads on to the world as it would be.
    pub(super) changes: Vec<Change>,
    /// The objects among the changes, sorted.
    pub(super) objects: Vec<ObjectChange>,
    /// What is wrong or surprising about the change itself.
    pub(super) findings: Vec<Diagnostic>,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ObjectChange {
    object: ObjectRef,
    change: Kind,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Added,
    Changed,
    Removed,
}

/// Objects by name.
type Objects = BTreeMap<ObjectRef, Object>;

impl Proposal {
    /// One directory becomes the other.
    pub(super) fn between(before: &Path, after: &Path, mesh: &MeshConfig) -> anyhow::Result<Self> {
        let (old, new) = eastwest_sources::load_both(before, after, mesh)?;
        let findings = new.diagnostics.into_iter().filter(|one| !old.diagnostics.contains(one)).collect();
        Ok(Self::new(old.changes, new.changes, findings))
    }

    /// Manifests are applied to what is present, and objects deleted. Mistakes in `delete` are noted.
    pub(super) fn overlay(
        present: Loaded,
        files: &[PathBuf],
        delete: &[String],
        mesh: &MeshConfig,
        problems: &mut Problems,
    ) -> anyhow::Result<Self> {
        let objects = objects(&present.changes);
        let (mut applied, mut findings) = (BTreeMap::new(), Vec::new());
        for file in files {
            let loaded = read(file, mesh)?;
            findings.extend(loaded.diagnostics);
            for change in loaded.changes {
                let Change::Upsert(object) = change else { continue };
                let before = objects.get(object.reference());
                let object = before.map(|before| object.clone().keeping_age_of(before)).unwrap_or(object);
                applied.insert(object.reference().clone(), object);
            }
        }
        let mut changes: Vec<_> = applied.values().cloned().map(Change::Upsert).collect();
        for name in delete {
            match objects.keys().find(|reference| reference.to_string() == *name) {
                None => problems.add("--delete", missing(name, &objects)),
                Some(found) if applied.contains_key(found) => {
                    problems.add("--delete", format!("{name} is also applied by -f: do one of both"));
                }
                Some(found) => changes.push(Change::Delete(found.clone())),
            }
        }
        findings.sort();
        Ok(Self::new(present.changes, changes, findings))
    }

    /// Leaves out what only stands elsewhere.
    fn new(before: Vec<Change>, changes: Vec<Change>, findings: Vec<Diagnostic>) -> Self {
        let known = objects(&before);
        let is_news = |change: &Change| match change {
            Change::Upsert(new) => known.get(new.reference()).is_none_or(|old| !old.says_the_same(new)),
            Change::Delete(reference) => known.contains_key(reference),
        };
        let changes: Vec<Change> = changes.into_iter().filter(is_news).collect();
        let mut objects: Vec<_> = changes.iter().map(|change| ObjectChange::of(change, &known)).collect();
        objects.sort_by(|a, b| a.object.cmp(&b.object));
        Self { before, changes, objects, findings }
    }
}

impl ObjectChange {
    fn of(change: &Change, known: &Objects) -> Self {
        match change {
            Change::Delete(object) => Self { object: object.clone(), change: Kind::Removed },
            Change::Upsert(new) => {
                let object = new.reference().clone();
                let change = if known.contains_key(&object) { Kind::Changed } else { Kind::Added };
                Self { object, change }
            }
        }
    }
}

fn objects(changes: &[Change]) -> Objects {
    let upserts = changes.iter().filter_map(|change| match change {
        Change::Upsert(object) => Some((object.reference().clone(), object.clone())),
        Change::Delete(_) => None,
    });
    upserts.collect()
}

fn read(file: &Path, mesh: &MeshConfig) -> anyhow::Result<Loaded> {
    if file != Path::new("-") {
        return eastwest_sources::load(file, mesh).context("-f");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("-f -: cannot read stdin")?;
    let parsed = parse::documents(&text, "stdin", mesh);
    let changes = parsed.objects.into_iter().map(Change::Upsert).collect();
    Ok(Loaded { changes, diagnostics: parsed.diagnostics })
}

/// What there is instead: the objects that share most with the name, else the shape of a name.
fn missing(name: &str, objects: &Objects) -> String {
    let parts: Vec<String> = name.split('/').map(str::to_lowercase).collect();
    let kind = parts.first().map(String::as_str).unwrap_or_default();
    let of_kind = |one: &ObjectRef| {
        let known = one.kind.to_string().to_lowercase();
        // Also as kubectl takes them.
        [kind, kind.strip_suffix('s').unwrap_or(kind)].contains(&known.as_str())
    };
    // The name tells more than the namespace, and that more than the kind.
    let shared = |one: &ObjectRef| {
        let mut rest = parts.iter().rev().map(String::as_str);
        let named = rest.next() == Some(&*one.name);
        let placed = rest.next() == Some(&*one.namespace);
        4 * u8::from(named) + 2 * u8::from(placed) + u8::from(of_kind(one))
    };
    let mut similar: Vec<_> =
        objects.keys().map(|one| (shared(one), one)).filter(|(one, _)| *one > 0).collect();
    similar.sort_by_key(|(shared, one)| (std::cmp::Reverse(*shared), *one));
    let similar: Vec<_> = similar.iter().take(8).map(|(_, one)| one.to_string()).collect();
    match similar.as_slice() {
        [] => format!("there is no {name}: write Kind/namespace/name of an object that is there"),
        _ => format!("there is no {name}: did you mean one of {}?", similar.join(", ")),
    }
}
