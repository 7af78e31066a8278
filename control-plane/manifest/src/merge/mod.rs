//! What several sources state, merged: which objects are in force, and what is wrong with them.
//!
//! A source is registered under a [`SourceId`] and sends [`Batch`]es of [`Update`]s. A part of a source is one object
//! of an API, or one file of a directory; an update replaces parts. The cost of an update follows the parts that it
//! names, not the number of objects.
//!
//! Rules:
//! - An object that is refused keeps its last good version from the same source, also if it moved to another file with
//!   the mistake. Of an object that was never good there, what stands in for it is in force ([`Entry::stand_in`]); without
//!   that, nothing is.
//! - A file that does not parse, or that cannot be read, keeps every object that it held: it is unknown which objects it
//!   was meant to hold. If it held none, what can be read of it is taken.
//! - A file or an object that is gone from a source takes no object of another source along.
//! - An object that several places state is that of the source registered first; within a directory that of the first
//!   file by path; within a file the first. Equal statements are harmless. A different one is an error that names both
//!   places.

mod claim;
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
    tally::Tally,
};
use crate::parse::{Entry, Parsed};

/// What is added to an error if an earlier version stays in force.
const EARLIER: &str = "; what was good before stays in force";
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
    /// What it names.
    references: BTreeSet<ObjectRef>,
    /// It did not parse.
    broken: bool,
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
        let changes = self.settle(&mut step);
        for (source, part) in std::mem::take(&mut step.restated) {
            self.restate(source, &part);
        }
        let (found, solved) = self.diagnostics.settle();
        Effect { changes, found, solved }
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
                let content = self.sources[source].parts.entry(part.clone()).or_default();
                (content.found, content.broken) = (vec![problem], false);
                self.restate(source, &part);
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
        let parsed = Parsed { objects, refused, stand_ins, diagnostics: entry.diagnostics, broken: false };
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
        let Parsed { objects, diagnostics, refused, stand_ins, broken } = parsed;
        let (content, before) = self.take(source, &part, step);
        let stays = |(reference, standing): &(ObjectRef, Standing)| match refused.contains(reference) {
            true => standing.is_good(),
            false => broken,
        };
        let kept = before.into_iter().filter(stays);
        let kept: Vec<_> = kept.map(|(reference, standing)| (reference, standing.kept())).collect();
        let was_good = kept.iter().any(|(_, standing)| matches!(standing, Standing::Kept(_)));
        // Without a last good content, what can be read of a broken file is better than nothing.
        let stated = objects.into_iter().filter(|_| !(broken && was_good));
        let stated = stated.map(|object| (object.reference().clone(), Standing::Stated(object)));
        let known: BTreeSet<_> = kept.iter().map(|(reference, _)| reference.clone()).collect();
        let stand_in = |reference: &ObjectRef| {
            let object = stand_ins.iter().find(|object| object.reference() == reference);
            object.cloned().map_or(Standing::Missing, Standing::StandIn)
        };
        let missing = refused.difference(&known).map(|one| (one.clone(), stand_in(one)));
        let claims: Vec<_> = stated.chain(kept).chain(missing).collect();
        let references = claims.iter().map(|(reference, _)| reference.clone()).collect();
        for (order, (reference, standing)) in claims.into_iter().enumerate() {
            step.touch(&reference, &self.claims);
            let claim = Claim { place: Place::new(source, part.file(), order), standing };
            let claims = self.claims.entry(reference).or_default();
            claims.insert(claims.partition_point(|other| other.place < claim.place), claim);
        }
        let content = Content { references, broken, found: diagnostics, shown: content.shown };
        self.sources[source].parts.insert(part.clone(), content);
        self.restate(source, &part);
    }

    /// A part is gone.
    fn drop_part(&mut self, source: usize, part: &Part, step: &mut Step) {
        let (content, _) = self.take(source, part, step);
        self.diagnostics.replace(&content.shown, &[]);
    }

    /// Takes out a part with its claims in their order.
    fn take(&mut self, source: usize, part: &Part, step: &mut Step) -> (Content, Vec<(ObjectRef, Standing)>) {
        let content = self.sources[source].parts.remove(part).unwrap_or_default();
        let mut taken = Vec::new();
        for reference in &content.references {
            step.touch(reference, &self.claims);
            let Some(claims) = self.claims.get_mut(reference) else { continue };
            let here = claims.extract_if(.., |claim| claim.place.is_of(source, part.file()));
            taken.extend(here.map(|claim| (claim.place, reference.clone(), claim.standing)));
        }
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        (content, taken.into_iter().map(|(_, reference, standing)| (reference, standing)).collect())
    }

    /// Decides anew which version of each touched object is in force.
    fn settle(&mut self, step: &mut Step) -> Vec<Change> {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (reference, before) in std::mem::take(&mut step.before) {
            let mut claims = self.claims.remove(&reference).unwrap_or_default();
            claim::adopt(&mut claims, &before);
            let refused = claims.iter().filter(|claim| !matches!(claim.standing, Standing::Stated(_)));
            step.restated.extend(refused.map(|one| (one.place.source, one.place.part(&reference))));
            match (claim::winner(&before), claim::winner(&claims)) {
                (Some(_), None) => gone.push(Change::Delete(reference.clone())),
                (before, Some(now)) if before != Some(now) => new.push(Change::Upsert(now.clone())),
                _ => {}
            }
            self.note_conflicts(&reference, &claims);
            if !claims.is_empty() {
                self.claims.insert(reference, claims);
            }
        }
        gone.into_iter().chain(new).collect()
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
        let holds_good = remains.values().any(|one| *one == Remains::Earlier);
        let mut shown = content.found.clone();
        for diagnostic in shown.iter_mut().filter(|one| one.severity == Severity::Error) {
            let of_file = content.broken && part.file().is_some_and(|file| diagnostic.object == **file);
            match remains.get(&diagnostic.object) {
                None if of_file && holds_good => diagnostic.message.push_str(EARLIER),
                Some(Remains::Earlier) => diagnostic.message.push_str(EARLIER),
                Some(Remains::StandIn) => diagnostic.message.push_str(STAND_IN),
                Some(Remains::Nothing) => diagnostic.effect = Some(Ineffective::None),
                None | Some(Remains::Other) => {}
            }
        }
        self.diagnostics.replace(&content.shown, &shown);
        content.shown = shown;
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
