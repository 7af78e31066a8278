//! Which objects the broken documents of a file may be.
//!
//! An object that a file named before, and no longer does, may have been taken out, or it may stand in a document that is
//! broken now. It counts as the latter, and keeps its last good version,
//! - if a document that has lost its name mentions it;
//! - if no such object is mentioned, or a document that is refused has a name that the file did not have before: the name
//!   itself may be what is wrong;
//! - if the last document is broken: the file may be cut off in it, with all that stood behind.
//!
//! A document that was broken before, and says the same, is none of these: what goes beside it is taken out. An object
//! stays for as long as one of the documents that it may be is there, or a new one that it may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use eastwest_model::ObjectRef;

use crate::parse::{Broken, Parsed};

/// The hash of the text of a broken document.
type Text = u64;

/// The broken documents of a file, and the objects that they may be.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    broken: BTreeSet<Text>,
    /// The objects that the file no longer names, with the documents that each may be.
    objects: BTreeMap<ObjectRef, BTreeSet<Text>>,
}

impl Suspects {
    /// The objects that the file no longer names and that a broken document may be.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects.keys()
    }

    /// Those of the content that comes next. `known` are the objects of this one, those that it may be among them.
    pub(super) fn next(&self, known: &BTreeSet<ObjectRef>, next: &Parsed) -> Self {
        let broken: BTreeSet<_> = next.broken.iter().map(|one| text(&one.text)).collect();
        if broken.is_empty() {
            return Self::default();
        }
        let mut gone = known.clone();
        gone.retain(|one| {
            !next.refused.contains(one) && next.objects.iter().all(|object| object.reference() != one)
        });
        let mut objects = BTreeMap::new();
        for reference in &gone {
            let before = self.objects.get(reference).into_iter().flatten();
            let still: BTreeSet<_> = before.filter(|text| broken.contains(text)).copied().collect();
            objects.insert(reference.clone(), still);
        }
        for document in &next.broken {
            let text = text(&document.text);
            if self.broken.contains(&text) {
                continue;
            }
            let meant = meant_by(document, known, &gone);
            objects.iter_mut().filter(|(one, _)| meant(one)).for_each(|(_, texts)| texts.extend([text]));
        }
        objects.retain(|_, texts| !texts.is_empty());
        Self { broken, objects }
    }
}

/// Which of the objects that are gone a newly broken document may be.
fn meant_by<'a>(
    document: &'a Broken,
    known: &BTreeSet<ObjectRef>,
    gone: &BTreeSet<ObjectRef>,
) -> impl Fn(&ObjectRef) -> bool + 'a {
    let is_any = document.is_last
        || match &document.names {
            Some(reference) => !known.contains(reference),
            None => !gone.iter().any(|one| mentions(&document.text, &one.name)),
        };
    move |one| is_any || document.names.is_none() && mentions(&document.text, &one.name)
}

fn text(text: &str) -> Text {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whether a text has this name as a word.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}
