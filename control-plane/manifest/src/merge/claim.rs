//! The claims on one object: which places state it, and which version each of them has.

use std::collections::BTreeSet;

use eastwest_model::{Name, Object, ObjectRef};

/// What a source replaces as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Object(ObjectRef),
    File(Name),
}

impl Part {
    /// The path of a file.
    pub(super) fn file(&self) -> Option<&Name> {
        match self {
            Self::Object(_) => None,
            Self::File(file) => Some(file),
        }
    }
}

/// Where a claim stands. The order is that of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The rank of the source.
    pub(super) source: usize,
    /// The file, if the source is a directory.
    file: Option<Name>,
    /// The position within the part.
    order: usize,
}

impl Place {
    pub(super) fn new(source: usize, file: Option<&Name>, order: usize) -> Self {
        Self { source, file: file.cloned(), order }
    }

    /// Whether this is in the part of `source` that has this file, or none.
    pub(super) fn is_of(&self, source: usize, file: Option<&Name>) -> bool {
        self.source == source && self.file.as_ref() == file
    }

    /// The part; `reference` is the object that is claimed.
    pub(super) fn part(&self, reference: &ObjectRef) -> Part {
        match &self.file {
            Some(file) => Part::File(file.clone()),
            None => Part::Object(reference.clone()),
        }
    }
}

/// A version of an object and why it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The part states it.
    Stated(Object),
    /// The part cannot be read as far as the object is concerned, no part of the source states it, and this is the last
    /// good version that the source had.
    Last(Object),
    /// The part cannot be read as far as the object is concerned, and another part of the source states it, or none ever
    /// did.
    Open,
}

/// A claim on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) place: Place,
    pub(super) standing: Standing,
    /// What can be read of a refused object: it counts where no version was ever accepted.
    pub(super) stand_in: Option<Object>,
}

impl Claim {
    /// The accepted version that it stands for.
    pub(super) fn object(&self) -> Option<&Object> {
        match &self.standing {
            Standing::Stated(object) | Standing::Last(object) => Some(object),
            Standing::Open => None,
        }
    }

    pub(super) fn is_stated(&self) -> bool {
        matches!(self.standing, Standing::Stated(_))
    }
}

/// The version in force among the claims on an object, which are in their order. Any accepted version goes before what
/// stands in for a refused one.
pub(super) fn winner(claims: &[Claim]) -> Option<&Object> {
    claims.iter().find_map(Claim::object).or_else(|| claims.iter().find_map(|claim| claim.stand_in.as_ref()))
}

/// What is in force of an object that cannot be read in a part of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// The last good version of the source.
    Last,
    /// What stands in for it in this part.
    StandIn,
    /// What another part has.
    Other,
    /// Nothing at all.
    Nothing,
}

/// What is in force of an object with these claims, for the part of `source` that has this file, or none.
pub(super) fn remains(claims: &[Claim], source: usize, file: Option<&Name>) -> Remains {
    let here = |claim: &&Claim| claim.place.is_of(source, file);
    if claims.iter().filter(here).any(|claim| matches!(claim.standing, Standing::Last(_))) {
        return Remains::Last;
    }
    let is_good = claims.iter().any(|claim| claim.object().is_some());
    match claims.iter().find(|claim| claim.stand_in.is_some()).filter(|_| !is_good) {
        Some(first) if here(&first) => Remains::StandIn,
        None if !is_good => Remains::Nothing,
        _ => Remains::Other,
    }
}

/// Gives the first open claim of a source the version that the source had `before`, if no part of the source states one
/// any more, and takes it back when a part does.
pub(super) fn keep_last(claims: &mut [Claim], before: &[Claim]) {
    let open = claims.iter().filter(|claim| !claim.is_stated()).map(|claim| claim.place.source);
    for source in open.collect::<BTreeSet<_>>() {
        let of = |claim: &&Claim| claim.place.source == source;
        let is_stated = claims.iter().filter(of).any(Claim::is_stated);
        let last = before.iter().filter(of).find_map(Claim::object).filter(|_| !is_stated);
        let mut last = last.cloned();
        for claim in claims.iter_mut().filter(|claim| claim.place.source == source && !claim.is_stated()) {
            claim.standing = last.take().map_or(Standing::Open, Standing::Last);
        }
    }
}
