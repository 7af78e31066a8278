//! What several sources state, merged: which objects are in force, and what is wrong with them.
//!
//! A source is registered under a [`SourceId`] and sends [`Batch`]es of [`Update`]s. A part of a source is one object
//! of an API, or one file of a directory; an update replaces parts. The cost of an update follows the parts that it
//! names, not the number of objects.
//!
//! Rules:
//! - A part states the objects that can be read in it, whatever is wrong beside them. Objects that are refused in it are
//!   open, and those that it had before and that a broken document may be ([`suspects`]), until that document is mended
//!   or gone.
//! - An object that is open and that no part of the source states keeps the last good version that the source had. An
//!   object that was never good there is not in force, but for what stands in for it ([`Entry::stand_in`]).
//! - So what is in force is what a fresh start would find, and the last good versions of what is open.
//! - A file or an object that is gone from a source takes no object of another source along.
//! - An object that several places state is that of the source registered first; within a directory that of the first
//!   file by path; within a file the first. Equal statements are harmless. A different one is an error that names both
//!   places.

mod claim;
mod suspects;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use eastwest_model::{
    Change, Diagnostic, Effect as Ineffective, Kind, Name, Object, ObjectRef, Origin, Severity,
};

use self::{
    claim::{Claim, Part, Place, Remains, Standing},
    suspects::Suspects,
    tally::Tally,
};
use crate::parse::{Entry, Parsed};

/// What is added to an error if an earlier version stays in force.
const EARLIER: &str = "; what was good before stays in force";
/// What is added to an error about an object if others stand no longer in the file.
const OTHERS: &str = "; it may be cut off there, so what stood in it before stays in force";
/// What is added to an error if the rest of the object is in force.
const STAND_IN: &str = "; no earlier version is known, so the rest of the object is in force";

/// The name of a source as messages show it: `directory manifests`, `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(Name);

impl SourceId {
    /// The source of this name.
    pub fn new(name: impl Into<Name>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source states at one moment. Its updates take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The source.
    pub source: SourceId,
    /// The updates in their order.
    pub updates: Vec<Update>,
}

/// What a source states anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All objects of a kind: others of that kind, which came as entries before, are gone. An entry of another kind
    /// counts as [`Update::Upsert`].
    Resync {
        /// The kind.
        kind: Kind,
        /// Every object of that kind, the refused ones too.
        entries: Vec<Entry>,
    },
    /// An object is new or different, or stated again.
    Upsert(Entry),
    /// An object that came as an entry is gone.
    Delete(ObjectRef),
    /// The content of a file.
    File {
        /// The path, relative to the directory.
        file: Name,
        /// What it says.
        parsed: Parsed,
    },
    /// A file is there, but cannot be read: it keeps its objects.
    Unreadable {
        /// The path, relative to the directory.
        file: Name,
        /// Why.
        problem: Diagnostic,
    },
    /// A file is gone.
    Gone(Name),
    /// What is wrong with the source as a whole now; it replaces what the source said of itself before.
    Problems(Vec<Diagnostic>),
}

/// What a batch came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// The objects in force that are gone, and then those that are new or different; each by name.
    pub changes: Vec<Change>,
    /// The objects that are gone, as they were in force.
    pub gone: Vec<Object>,
    /// The objects that are different, as they were in force.
    pub replaced: Vec<Object>,
    /// The diagnostics that are new, errors first.
    pub found: Vec<Diagnostic>,
    /// The diagnostics that no longer hold, errors first.
    pub solved: Vec<Diagnostic>,
}

impl Effect {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The statements of all sources.
#[derive(Debug, Default)]
pub struct Merge {
    sources: Vec<Source>,
    /// Every object that some part states, with the places in the order in which they win.
    claims: BTreeMap<ObjectRef, Vec<Claim>>,
    /// The conflicts of each object that has some.
    conflicts: BTreeMap<ObjectRef, Vec<Diagnostic>>,
    diagnostics: Tally,
}

/// A source as last known.
#[derive(Debug)]
struct Source {
    id: SourceId,
    parts: BTreeMap<Part, Content>,
    /// What is wrong with it as a whole.
    problems: Vec<Diagnostic>,
}

/// A part as last known. Its objects are among the claims.
#[derive(Debug, Default)]
struct Content {
    /// What it states, and what is open in it.
    references: BTreeSet<ObjectRef>,
    /// The broken documents, and which objects that it no longer names they may be.
    suspects: Suspects,
    /// What was found in it.
    found: Vec<Diagnostic>,
    /// The same, with a word on what stays in force. This is what the tally has.
    shown: Vec<Diagnostic>,
}

/// What a batch touched so far.
#[derive(Debug, Default)]
struct Step {
    /// The claims before the batch.
    before: BTreeMap<ObjectRef, Vec<Claim>>,
    /// Parts of which the claims stand otherwise than their diagnostics say.
    restated: BTreeSet<(usize, Part)>,
}

impl Merge {
    /// Nothing yet from these sources. Of two sources that state the same object the earlier one wins; a source that is
    /// not among them comes after them.
    pub fn new(sources: impl IntoIterator<Item = SourceId>) -> Self {
        let mut merge = Self::default();
        for id in sources {
            merge.source(&id);
        }
        merge
    }

    /// Everything that is wrong or surprising now, errors first.
    pub fn diagnostics(&self) -> &Arc<Vec<Diagnostic>> {
        self.diagnostics.list()
    }

    /// Whether an object is stated but refused, and nothing of it is in force.
    pub fn lacks(&self, reference: &ObjectRef) -> bool {
        self.claims.get(reference).is_some_and(|claims| claim::winner(claims).is_none())
    }

    /// Takes in a batch.
    pub fn apply(&mut self, batch: Batch) -> Effect {
        let source = self.source(&batch.source);
        let mut step = Step::default();
        for update in batch.updates {
            self.update(source, update, &mut step);
        }
        let mut effect = self.settle(&mut step);
        for (source, part) in std::mem::take(&mut step.restated) {
            self.restate(source, &part);
        }
        (effect.found, effect.solved) = self.diagnostics.settle();
        effect
    }

    /// The rank of a source. There are few of them.
    fn source(&mut self, id: &SourceId) -> usize {
        if let Some(rank) = self.sources.iter().position(|source| source.id == *id) {
            return rank;
        }
        self.sources.push(Source { id: id.clone(), parts: BTreeMap::new(), problems: Vec::new() });
        self.sources.len() - 1
    }

    fn update(&mut self, source: usize, update: Update, step: &mut Step) {
        match update {
            Update::Resync { kind, entries } => self.resync(source, kind, entries, step),
            Update::Upsert(entry) => self.upsert(source, entry, step),
            Update::Delete(reference) => self.drop_part(source, &Part::Object(reference), step),
            Update::File { file, parsed } => self.replace(source, Part::File(file), parsed, step),
            Update::Unreadable { file, problem } => {
                let part = Part::File(file);
                let before = self.sources[source].parts.get(&part);
                let refused = before.map(|content| content.references.clone()).unwrap_or_default();
                let stand_ins = self.stand_ins(source, &part).into_values().collect();
                let parsed = Parsed { refused, stand_ins, diagnostics: vec![problem], ..Parsed::default() };
                self.replace(source, part, parsed, step);
            }
            Update::Gone(file) => self.drop_part(source, &Part::File(file), step),
            Update::Problems(problems) => {
                let before = std::mem::replace(&mut self.sources[source].problems, problems);
                self.diagnostics.replace(&before, &self.sources[source].problems);
            }
        }
    }

    fn resync(&mut self, source: usize, kind: Kind, entries: Vec<Entry>, step: &mut Step) {
        let listed: BTreeSet<_> = entries.iter().map(|entry| entry.reference.clone()).collect();
        let first = Part::Object(ObjectRef::new(kind, "", ""));
        let known = self.sources[source].parts.range(first..).map(|(part, _)| part);
        let of_kind = known.take_while(|part| matches!(part, Part::Object(object) if object.kind == kind));
        let gone = of_kind.filter(|part| matches!(part, Part::Object(object) if !listed.contains(object)));
        for part in gone.cloned().collect::<Vec<_>>() {
            self.drop_part(source, &part, step);
        }
        for entry in entries {
            self.upsert(source, entry, step);
        }
    }

    fn upsert(&mut self, source: usize, entry: Entry, step: &mut Step) {
        if self.has(source, &entry) {
            return;
        }
        let part = Part::Object(entry.reference.clone());
        let refused = Some(entry.reference).filter(|_| entry.refused).into_iter().collect();
        let objects = entry.object.into_iter().collect();
        let stand_ins = entry.stand_in.into_iter().collect();
        let diagnostics = entry.diagnostics;
        let parsed = Parsed { objects, refused, stand_ins, diagnostics, ..Parsed::default() };
        self.replace(source, part, parsed, step);
    }

    /// Whether a source states an accepted object again.
    fn has(&self, source: usize, entry: &Entry) -> bool {
        let Some(object) = &entry.object else { return false };
        let part = Part::Object(entry.reference.clone());
        let same = |content: &Content| content.found == entry.diagnostics;
        let stands = |claim: &Claim| {
            claim.place.is_of(source, None)
                && matches!(&claim.standing, Standing::Stated(known) if known == object)
        };
        self.sources[source].parts.get(&part).is_some_and(same)
            && self.claims.get(&entry.reference).is_some_and(|claims| claims.iter().any(stands))
    }

    /// A part has other content.
    fn replace(&mut self, source: usize, part: Part, parsed: Parsed, step: &mut Step) {
        // Most parts have no broken document, and nothing to ask for.
        let known = if parsed.broken.is_empty() { BTreeMap::new() } else { self.stand_ins(source, &part) };
        let before = self.take(source, &part, step);
        let suspects = before.suspects.next(&before.references, &parsed);
        let Parsed { objects, diagnostics, refused, stand_ins, .. } = parsed;
        let stated: BTreeSet<_> = objects.iter().map(|object| object.reference().clone()).collect();
        let refused = refused.into_iter().filter(|reference| !stated.contains(reference));
        let refused =
            refused.map(|one| (stand_ins.iter().find(|object| *object.reference() == one).cloned(), one));
        // What was read of an object before stands in for one that may be meant.
        let maybe = suspects.objects().map(|one| (known.get(one).cloned(), one.clone()));
        let open = refused.chain(maybe).map(|(stand_in, one)| (one, Standing::Open, stand_in));
        let stated =
            objects.into_iter().map(|object| (object.reference().clone(), Standing::Stated(object), None));
        let claims: Vec<_> = stated.chain(open).collect();
        let references = claims.iter().map(|(reference, ..)| reference.clone()).collect();
        for (order, (reference, standing, stand_in)) in claims.into_iter().enumerate() {
            step.touch(&reference, &self.claims);
            let claim = Claim { place: Place::new(source, part.file(), order), standing, stand_in };
            let claims = self.claims.entry(reference).or_default();
            claims.insert(claims.partition_point(|other| other.place < claim.place), claim);
        }
        let content = Content { references, suspects, found: diagnostics, shown: before.shown };
        self.sources[source].parts.insert(part.clone(), content);
        step.restated.insert((source, part));
    }

    /// A part is gone.
    fn drop_part(&mut self, source: usize, part: &Part, step: &mut Step) {
        let content = self.take(source, part, step);
        self.diagnostics.replace(&content.shown, &[]);
    }

    /// What stands in for objects of a part.
    fn stand_ins(&self, source: usize, part: &Part) -> BTreeMap<ObjectRef, Object> {
        let content = self.sources[source].parts.get(part);
        let references = content.into_iter().flat_map(|content| &content.references);
        let claims = references.filter_map(|reference| self.claims.get(reference)).flatten();
        let here = claims.filter(|claim| claim.place.is_of(source, part.file()));
        here.filter_map(|claim| claim.stand_in.clone())
            .map(|object| (object.reference().clone(), object))
            .collect()
    }

    /// Takes out a part with its claims.
    fn take(&mut self, source: usize, part: &Part, step: &mut Step) -> Content {
        let content = self.sources[source].parts.remove(part).unwrap_or_default();
        for reference in &content.references {
            step.touch(reference, &self.claims);
            let Some(claims) = self.claims.get_mut(reference) else { continue };
            claims.retain(|claim| !claim.place.is_of(source, part.file()));
        }
        content
    }

    /// Decides anew which version of each touched object is in force.
    fn settle(&mut self, step: &mut Step) -> Effect {
        let (mut gone, mut replaced, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (reference, before) in std::mem::take(&mut step.before) {
            let mut claims = self.claims.remove(&reference).unwrap_or_default();
            claim::keep_last(&mut claims, &before);
            let open = claims.iter().filter(|claim| !claim.is_stated());
            step.restated.extend(open.map(|one| (one.place.source, one.place.part(&reference))));
            match (claim::winner(&before), claim::winner(&claims)) {
                (Some(object), None) => gone.push(object.clone()),
                (before, Some(now)) if before != Some(now) => {
                    replaced.extend(before.cloned());
                    new.push(Change::Upsert(now.clone()));
                }
                _ => {}
            }
            self.note_conflicts(&reference, &claims);
            if !claims.is_empty() {
                self.claims.insert(reference, claims);
            }
        }
        let deleted = gone.iter().map(|object| Change::Delete(object.reference().clone()));
        let changes = deleted.chain(new).collect();
        Effect { changes, gone, replaced, ..Effect::default() }
    }

    fn note_conflicts(&mut self, reference: &ObjectRef, claims: &[Claim]) {
        let mut objects = claims.iter().filter_map(|claim| Some((claim.place.source, claim.object()?)));
        let now: Vec<_> = match objects.next() {
            None => Vec::new(),
            Some(first) => objects
                .filter(|other| !first.1.says_the_same(other.1))
                .map(|other| self.conflict(other, first))
                .collect(),
        };
        let before = self.conflicts.remove(reference).unwrap_or_default();
        self.diagnostics.replace(&before, &now);
        if !now.is_empty() {
            self.conflicts.insert(reference.clone(), now);
        }
    }

    /// The error that an object is ignored where another place states it otherwise.
    fn conflict(&self, (source, object): (usize, &Object), (winner, first): (usize, &Object)) -> Diagnostic {
        let place = |of: usize, object: &Object| match &object.meta().origin {
            origin if source == winner => origin.to_string(),
            Origin { file: None, .. } => self.sources[of].id.to_string(),
            origin => format!("{origin} in {}", self.sources[of].id),
        };
        let (here, there) = (place(source, object), place(winner, first));
        Diagnostic {
            severity: Severity::Error,
            object: object.reference().to_string(),
            origin: object.meta().origin.clone(),
            field: "metadata.name".to_owned(),
            message: format!(
                "is ignored here ({here}): the object also stands, otherwise, at {there}; keep one of them"
            ),
            beaten_by: None,
            effect: None,
        }
    }

    /// Tells for each error of a part what of the object is in force in spite of it.
    fn restate(&mut self, source: usize, part: &Part) {
        let Some(content) = self.sources[source].parts.get_mut(part) else { return };
        if content.found.is_empty() && content.shown.is_empty() {
            return;
        }
        let remains = content.references.iter().map(|reference| {
            let claims = self.claims.get(reference).map(Vec::as_slice).unwrap_or_default();
            (reference.to_string(), claim::remains(claims, source, part.file()))
        });
        let remains: BTreeMap<String, Remains> = remains.collect();
        let stays = |name: &String| remains.get(name) == Some(&Remains::Last);
        let others: Vec<_> = content.suspects.objects().map(ToString::to_string).filter(stays).collect();
        let mut shown = content.found.clone();
        let mut is_told = others.is_empty();
        for diagnostic in shown.iter_mut().filter(|one| one.severity == Severity::Error) {
            let is_of_file = part.file().is_some_and(|file| diagnostic.object == **file);
            match remains.get(&diagnostic.object) {
                Some(Remains::Last) => diagnostic.message.push_str(EARLIER),
                Some(Remains::StandIn) => diagnostic.message.push_str(STAND_IN),
                Some(Remains::Nothing) => diagnostic.effect = Some(Ineffective::None),
                None if is_of_file && !others.is_empty() => {
                    diagnostic.message.push_str(&format!("{EARLIER}: {}", list(&others)));
                    is_told = true;
                }
                None if is_of_file && content.found.len() == 1 && remains.keys().any(stays) => {
                    diagnostic.message.push_str(EARLIER);
                }
                None if is_of_file => diagnostic.effect = Some(Ineffective::None),
                None | Some(Remains::Other) => {}
            }
        }
        if let Some(first) = shown.first_mut().filter(|_| !is_told) {
            first.message.push_str(&format!("{OTHERS}: {}", list(&others)));
        }
        self.diagnostics.replace(&content.shown, &shown);
        content.shown = shown;
    }
}

/// The first names of a list, and how many more there are.
fn list(names: &[String]) -> String {
    match names {
        [.., _, _, _, _] => format!("{} and {} more", names[..3].join(", "), names.len() - 3),
        _ => names.join(", "),
    }
}

impl Step {
    /// Remembers what claimed an object before the batch.
    fn touch(&mut self, reference: &ObjectRef, claims: &BTreeMap<ObjectRef, Vec<Claim>>) {
        if !self.before.contains_key(reference) {
            self.before.insert(reference.clone(), claims.get(reference).cloned().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
