//! All resources of one type, immutable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use crate::resource::{EncodedResource, Version};
use crate::type_url::TypeUrl;

/// Makes the response for a name that does not exist, e.g. an empty `ClusterLoadAssignment` (XDS.md X23).
pub type AbsentResource = fn(&str) -> EncodedResource;

/// The resources of one type within a view: immutable, sorted by name.
///
/// The version of the set changes with its content and only with it.
pub struct ResourceSet {
    type_url: TypeUrl,
    resources: Vec<Arc<EncodedResource>>,
    version: Version,
    /// How it came to be, the latest step last.
    steps: Vec<Arc<Step>>,
    absent: Option<AbsentResource>,
    joined_sotw: Joined,
    joined_delta: Joined,
    /// The sum of the hashes of all names.
    names: OnceLock<u64>,
}

/// The number of steps that a set remembers. A stream that lags further behind compares whole sets.
const STEPS: usize = 16;

/// How a set differs from the one before it; a stream that was up to date need not compare whole sets.
struct Step {
    from: Version,
    names: Vec<Arc<str>>,
}

impl ResourceSet {
    /// Of several resources with the same name the last one counts (XDS.md X8).
    pub fn new(type_url: TypeUrl, resources: impl IntoIterator<Item = Arc<EncodedResource>>) -> Self {
        let mut resources: Vec<_> = resources.into_iter().collect();
        debug_assert!(resources.iter().all(|r| *r.type_url() == type_url), "a set holds one type");
        resources.sort_by(|a, b| a.name().cmp(b.name()));
        resources.dedup_by(|later, kept| {
            let same = later.name() == kept.name();
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        let version = resources.iter().fold(Version::default(), |sum, r| sum.plus(r.version()));
        Self {
            type_url,
            resources,
            version,
            steps: Vec::new(),
            absent: None,
            joined_sotw: Joined::default(),
            joined_delta: Joined::default(),
            names: OnceLock::new(),
        }
    }

    /// Answers subscribed names that do not exist with `absent`; without it they get no response.
    #[must_use]
    pub fn answering_absent(mut self, absent: AbsentResource) -> Self {
        self.absent = Some(absent);
        self
    }

    /// The set that follows this one: the same `Arc` if the content is the same, so that readers see no change.
    #[must_use]
    pub fn next(self: &Arc<Self>, resources: impl IntoIterator<Item = Arc<EncodedResource>>) -> Arc<Self> {
        let mut next = Self::new(self.type_url.clone(), resources);
        if next.version == self.version {
            return Arc::clone(self);
        }
        next.absent = self.absent;
        next.steps = self.steps_and(changed_names(self, &next));
        Arc::new(next)
    }

    /// The set that follows this one when only some names differ: `None` = there is no such resource any more. Costs
    /// one pointer for each resource and a search for each edit; the same `Arc` if the content is the same.
    #[must_use]
    pub fn edited(
        self: &Arc<Self>,
        edits: impl IntoIterator<Item = (Arc<str>, Option<Arc<EncodedResource>>)>,
    ) -> Arc<Self> {
        let edits: BTreeMap<_, _> = edits.into_iter().collect();
        let version = |resource: &Arc<EncodedResource>| resource.version();
        let differs =
            |name: &str, new: Option<&Arc<EncodedResource>>| self.get(name).map(version) != new.map(version);
        let edits: Vec<_> = edits.into_iter().filter(|(name, new)| differs(name, new.as_ref())).collect();
        if edits.is_empty() {
            return Arc::clone(self);
        }
        let names = edits.iter().map(|(name, _)| Arc::clone(name)).collect();
        let mut next = Self {
            type_url: self.type_url.clone(),
            resources: self.resources.clone(),
            version: self.version,
            steps: self.steps_and(names),
            absent: self.absent,
            joined_sotw: Joined::default(),
            joined_delta: Joined::default(),
            names: OnceLock::new(),
        };
        edits.into_iter().for_each(|(name, new)| next.edit(&name, new));
        Arc::new(next)
    }

    fn edit(&mut self, name: &str, new: Option<Arc<EncodedResource>>) {
        if let Some(new) = &new {
            self.version = self.version.plus(new.version());
        }
        let found = self.resources.binary_search_by(|r| r.name().as_ref().cmp(name));
        if let Some(old) = found.ok().and_then(|at| self.resources.get(at)) {
            self.version = self.version.minus(old.version());
        }
        match (found, new) {
            (Ok(at), new) => drop(self.resources.splice(at..=at, new)),
            (Err(at), Some(new)) => self.resources.insert(at, new),
            (Err(_), None) => {}
        }
    }

    /// The steps of the set that follows this one, in which these names differ.
    fn steps_and(&self, names: Vec<Arc<str>>) -> Vec<Arc<Step>> {
        let earlier = self.steps.iter().skip((self.steps.len() + 1).saturating_sub(STEPS));
        earlier.cloned().chain([Arc::new(Step { from: self.version, names })]).collect()
    }

    /// The version of the set that this one followed, and the names that may differ from it; `None` if it followed none.
    pub fn step(&self) -> Option<(Version, &[Arc<str>])> {
        self.steps.last().map(|step| (step.from, step.names.as_slice()))
    }

    /// The type of all resources in this set.
    pub fn type_url(&self) -> &TypeUrl {
        &self.type_url
    }

    /// The hash of the whole content.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<EncodedResource>> {
        let index = self.resources.binary_search_by(|r| r.name().as_ref().cmp(name)).ok()?;
        self.resources.get(index)
    }

    /// Whether these are the names of all resources, each once and in any order. They are compared by the sum of their
    /// hashes: a client that finds two lists of one sum asks for what it may have anyway.
    pub(crate) fn has_names(&self, names: &[String]) -> bool {
        let own =
            || *self.names.get_or_init(|| sum_of_hashes(self.iter().map(|resource| &**resource.name())));
        names.len() == self.len() && sum_of_hashes(names.iter().map(String::as_str)) == own()
    }

    /// All resources by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<EncodedResource>> {
        self.resources.iter()
    }

    /// The response for a subscribed name that does not exist, if the type has one.
    pub(crate) fn absent(&self, name: &str) -> Option<Arc<EncodedResource>> {
        self.absent.map(|absent| Arc::new(absent(name)))
    }

    /// The names that may differ from the set of version `from`; `None` if that is not known.
    pub(crate) fn changed_since(&self, from: Version) -> Option<BTreeSet<&Arc<str>>> {
        if from == self.version {
            return Some(BTreeSet::new());
        }
        let first = self.steps.iter().rposition(|step| step.from == from)?;
        Some(self.steps[first..].iter().flat_map(|step| &step.names).collect())
    }

    /// The names that may differ between this set and another.
    pub(crate) fn names_to(&self, other: &Self) -> Vec<Arc<str>> {
        match other.changed_since(self.version) {
            Some(names) => names.into_iter().cloned().collect(),
            None => changed_names(self, other),
        }
    }

    /// All state-of-the-world entries in one piece, shared by all streams that are being sent it.
    pub(crate) fn joined_sotw(&self) -> Bytes {
        self.joined_sotw.get(|| join(self.iter().map(|r| r.sotw_entry())))
    }

    /// All delta entries in one piece, shared by all streams that are being sent it.
    pub(crate) fn joined_delta(&self) -> Bytes {
        self.joined_delta.get(|| join(self.iter().map(|r| r.delta_entry())))
    }
}

impl fmt::Debug for ResourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.type_url, self.version)?;
        f.debug_list().entries(&self.resources).finish()
    }
}

/// Bytes that are kept while somebody uses them: they are as large as all resources together, and most streams need them
/// once.
#[derive(Default)]
struct Joined(Mutex<Weak<Bytes>>);

impl Joined {
    fn get(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = known.upgrade().unwrap_or_else(|| Arc::new(make()));
        *known = Arc::downgrade(&bytes);
        Bytes::from_owner(Shared(bytes))
    }
}

/// Owns shared bytes.
struct Shared(Arc<Bytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The same whatever the order.
fn sum_of_hashes<'a>(names: impl Iterator<Item = &'a str>) -> u64 {
    let hash = |name: &str| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    };
    names.fold(0, |sum: u64, name| sum.wrapping_add(hash(name)))
}

/// The names whose resources differ between two sets, by one walk over both.
fn changed_names(old: &ResourceSet, new: &ResourceSet) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => a.name().cmp(b.name()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return names,
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        match (gone, come) {
            (Some(a), Some(b)) if a.version() == b.version() => {}
            (_, Some(resource)) | (Some(resource), None) => names.push(Arc::clone(resource.name())),
            (None, None) => return names,
        }
    }
}

/// Copies pieces into one buffer: one big shared chunk is cheaper to send than many small ones.
pub(crate) fn join(pieces: impl Iterator<Item = Bytes> + Clone) -> Bytes {
    let mut joined = Vec::with_capacity(pieces.clone().map(|piece| piece.len()).sum());
    pieces.for_each(|piece| joined.extend_from_slice(&piece));
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(resources: &[(&str, &str)]) -> ResourceSet {
        ResourceSet::new(TypeUrl::CLUSTER, encode(resources))
    }

    fn encode(resources: &[(&str, &str)]) -> Vec<Arc<EncodedResource>> {
        let make =
            |(name, body): &(&str, &str)| EncodedResource::new(TypeUrl::CLUSTER, name, body.as_bytes());
        resources.iter().map(|r| Arc::new(make(r))).collect()
    }

    #[test]
    fn version_does_not_depend_on_order_and_duplicates_collapse() {
        let (one, other) =
            (set(&[("a", "1"), ("b", "2")]), set(&[("b", "old"), ("a", "0"), ("b", "2"), ("a", "1")]));
        assert_eq!(one.version(), other.version());
        assert_eq!(other.len(), 2);
        assert_eq!(other.get("b").map(|r| r.body()), Some(Bytes::from("2")));
    }

    #[test]
    fn equal_content_is_the_same_set() {
        let first = Arc::new(set(&[("a", "1")]));
        assert!(Arc::ptr_eq(&first, &first.next(encode(&[("a", "1")]))));
        assert!(!Arc::ptr_eq(&first, &first.next(encode(&[("a", "2")]))));
    }

    #[test]
    fn a_step_names_what_came_went_and_changed() {
        let first = Arc::new(set(&[("a", "1"), ("b", "1"), ("c", "1")]));
        let second = first.next(encode(&[("b", "1"), ("c", "2"), ("d", "1")]));
        let names: Vec<_> =
            second.changed_since(first.version()).into_iter().flatten().map(|n| &**n).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert!(second.changed_since(second.version()).is_some_and(|names| names.is_empty()));
    }

    #[test]
    fn joined_bytes_are_shared_and_given_back() {
        let set = set(&[("a", "1"), ("b", "2")]);
        let (one, other) = (set.joined_delta(), set.joined_delta());
        assert_eq!(one.as_ptr(), other.as_ptr());
        drop((one, other));
        assert!(set.joined_delta.0.lock().unwrap().upgrade().is_none());
    }

    #[test]
    fn a_set_knows_how_it_differs_from_those_before_it() {
        let edit = |name: &str, body: &str| [(Arc::from(name), Some(encode(&[(name, body)]).remove(0)))];
        let mut sets = vec![Arc::new(set(&[("a", "0"), ("b", "0")]))];
        for step in 1..=STEPS + 1 {
            let name = if step % 2 == 0 { "a" } else { "b" };
            sets.push(sets[step - 1].edited(edit(name, &step.to_string())));
        }
        let last = &sets[STEPS + 1];
        let since = |at: usize| {
            last.changed_since(sets[at].version())
                .map(|all| all.into_iter().map(|n| &**n).collect::<Vec<_>>())
        };
        assert_eq!(since(STEPS + 1), Some(vec![]));
        assert_eq!(since(STEPS), Some(vec!["b"]));
        assert_eq!(since(1), Some(vec!["a", "b"]));
        assert_eq!(since(0), None, "too long ago");
    }

    #[test]
    fn an_edited_set_is_the_one_made_anew() {
        let first = Arc::new(set(&[("a", "1"), ("b", "1"), ("c", "1")]));
        let edit = |name: &str, body: Option<&str>| {
            (Arc::from(name), body.map(|body| encode(&[(name, body)]).remove(0)))
        };
        let edits = [
            edit("a", None),
            edit("b", Some("1")),
            edit("c", Some("2")),
            edit("d", Some("1")),
            edit("e", None),
        ];
        let edited = first.edited(edits);
        let anew = first.next(encode(&[("b", "1"), ("c", "2"), ("d", "1")]));
        assert_eq!(edited.version(), anew.version());
        let names = |set: &ResourceSet| set.iter().map(|one| one.name().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&edited), names(&anew));
        assert_eq!(edited.step(), anew.step());
        assert!(Arc::ptr_eq(&first, &first.edited([edit("b", Some("1")), edit("z", None)])));
    }
}
