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
    /// The part stated it before; now the object is refused there, or the part does not parse.
    Kept(Object),
    /// The object is refused, and this is the last good version of another part of the source that no longer has it.
    Adopted(Object),
    /// The object is refused, there is no good version, and this is what can be read of it.
    StandIn(Object),
    /// The object is refused, and there is no good version.
    Missing,
}

impl Standing {
    /// What stays if the part does not state the object anew.
    pub(super) fn kept(self) -> Self {
        match self {
            Self::Stated(object) => Self::Kept(object),
            other => other,
        }
    }

    /// Whether it is a version that was accepted at some time.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Stated(_) | Self::Kept(_) | Self::Adopted(_))
    }
}

/// A claim on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) place: Place,
    pub(super) standing: Standing,
}

impl Claim {
    /// The accepted version that it stands for.
    pub(super) fn object(&self) -> Option<&Object> {
        match &self.standing {
            Standing::Stated(object) | Standing::Kept(object) | Standing::Adopted(object) => Some(object),
            Standing::StandIn(_) | Standing::Missing => None,
        }
    }

    fn stand_in(&self) -> Option<&Object> {
        match &self.standing {
            Standing::StandIn(object) => Some(object),
            _ => None,
        }
    }

    fn is_own(&self) -> bool {
        matches!(self.standing, Standing::Stated(_) | Standing::Kept(_))
    }
}

/// The version in force among the claims on an object, which are in their order. Any accepted version goes before what
/// stands in for a refused one.
pub(super) fn winner(claims: &[Claim]) -> Option<&Object> {
    claims.iter().find_map(Claim::object).or_else(|| claims.iter().find_map(Claim::stand_in))
}

/// What is in force of an object that a part of a source refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// An earlier version of this part.
    Earlier,
    /// What stands in for it in this part.
    StandIn,
    /// What another part has, if anything.
    Other,
    /// Nothing at all.
    Nothing,
}

/// What is in force of an object with these claims, for the part of `source` that has this file, or none.
pub(super) fn remains(claims: &[Claim], source: usize, file: Option<&Name>) -> Remains {
    let here = |claim: &&Claim| claim.place.is_of(source, file);
    let is_earlier = |claim: &Claim| matches!(claim.standing, Standing::Kept(_) | Standing::Adopted(_));
    let has_good = claims.iter().any(|claim| claim.standing.is_good());
    if claims.iter().filter(here).any(is_earlier) {
        Remains::Earlier
    } else if !has_good
        && claims.iter().find(|claim| claim.stand_in().is_some()).is_some_and(|one| here(&one))
    {
        Remains::StandIn
    } else if winner(claims).is_none() {
        Remains::Nothing
    } else {
        Remains::Other
    }
}

/// Gives a refused claim the version that its source had `before`, if no part of the source has one any more, and takes
/// it back when a part has one.
pub(super) fn adopt(claims: &mut [Claim], before: &[Claim]) {
    let of = |claim: &&Claim, source| claim.place.source == source;
    let open = claims.iter().filter(|claim| !claim.is_own()).map(|claim| claim.place.source);
    for source in open.collect::<BTreeSet<_>>() {
        let mine: Vec<&Claim> = claims.iter().filter(|claim| of(claim, source)).collect();
        let is_own = mine.iter().any(|claim| claim.is_own());
        let is_adopted = mine.iter().any(|claim| matches!(claim.standing, Standing::Adopted(_)));
        let last = before.iter().filter(|claim| of(claim, source)).find_map(Claim::object);
        let mut others = claims.iter_mut().filter(|claim| claim.place.source == source && !claim.is_own());
        match (is_own, is_adopted, last) {
            (true, true, _) => {
                for claim in others.filter(|claim| matches!(claim.standing, Standing::Adopted(_))) {
                    claim.standing = Standing::Missing;
                }
            }
            (false, false, Some(last)) => {
                if let Some(claim) = others.next() {
                    claim.standing = Standing::Adopted(last.clone());
                }
            }
            _ => {}
        }
    }
}
