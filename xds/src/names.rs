//! The names of a subscription.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::name_map::NameMap;
use crate::set::ResourceSet;

/// A set of this many names or fewer is not worth being kept as the difference from another.
const FEW: usize = 16;

/// A set of names. A client that names all resources of a type, as Envoy names the endpoints of all its clusters, costs
/// a reference to the resources: the names are kept as the difference from those of a [`ResourceSet`].
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Its names are subscribed, but for `except`.
    of: Option<Arc<ResourceSet>>,
    except: BTreeSet<Arc<str>>,
    /// Names that `of` does not have.
    more: NameMap<()>,
}

impl Names {
    /// All names of a set.
    pub(crate) fn all_of(set: &Arc<ResourceSet>) -> Self {
        Self { of: Some(Arc::clone(set)), ..Self::default() }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        if self.is_of(name) { !self.except.contains(name) } else { self.more.contains(name) }
    }

    /// Returns whether the name is new.
    pub(crate) fn insert(&mut self, name: Arc<str>) -> bool {
        if self.is_of(&name) { self.except.remove(&name) } else { self.more.insert(name, ()).is_none() }
    }

    /// Returns whether the name was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        match self.of.as_ref().and_then(|set| set.get(name)) {
            Some(resource) => self.except.insert(Arc::clone(resource.name())),
            None => self.more.remove(name).is_some(),
        }
    }

    /// About how many bytes it takes by itself.
    pub(crate) fn bytes(&self) -> usize {
        self.more.bytes()
    }

    pub(crate) fn len(&self) -> usize {
        self.of.as_ref().map_or(0, |set| set.len()) - self.except.len() + self.more.len()
    }

    /// All names, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let of = self.of.iter().flat_map(|set| set.iter()).map(|resource| resource.name());
        of.filter(|name| !self.except.contains(*name)).chain(self.more.names())
    }

    /// Keeps the same names as the difference from those of `set`, if that is shorter.
    pub(crate) fn relate_to(&mut self, set: &Arc<ResourceSet>) {
        match self.of.take() {
            Some(before) => self.follow(&before, set),
            None if self.more.len() > FEW && self.more.len() * 2 >= set.len() => {
                let of_set = |name: &Arc<str>| set.get(name).is_some();
                if self.more.names().filter(|name| of_set(name)).count() * 2 >= set.len().max(1) {
                    let all = std::mem::take(&mut self.more);
                    let names = set.iter().map(|resource| resource.name());
                    self.except = names.filter(|name| !all.contains(name)).cloned().collect();
                    let others = all.names().filter(|name| !of_set(name));
                    self.more = others.map(|name| (Arc::clone(name), ())).collect();
                    self.of = Some(Arc::clone(set));
                }
            }
            None => {}
        }
        if self.of.as_ref().is_some_and(|of| self.except.len() * 2 > of.len()) {
            self.more = self.iter().map(|name| (Arc::clone(name), ())).collect();
            self.of = None;
            self.except.clear();
        }
    }

    /// Names come and go in the set; the subscription stays the same.
    fn follow(&mut self, before: &Arc<ResourceSet>, set: &Arc<ResourceSet>) {
        self.of = Some(Arc::clone(set));
        for name in before.names_to(set) {
            match (before.get(&name).is_some(), set.get(&name).is_some()) {
                (true, false) if !self.except.remove(&name) => drop(self.more.insert(name, ())),
                (false, true) if self.more.remove(&name).is_none() => drop(self.except.insert(name)),
                _ => {}
            }
        }
    }

    fn is_of(&self, name: &str) -> bool {
        self.of.as_ref().is_some_and(|set| set.get(name).is_some())
    }
}

impl FromIterator<Arc<str>> for Names {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        Self { more: names.into_iter().map(|name| (name, ())).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::EncodedResource;
    use crate::type_url::TypeUrl;

    fn name(number: u64) -> Arc<str> {
        format!("n{number}").into()
    }

    fn set(numbers: impl Iterator<Item = u64>) -> Arc<ResourceSet> {
        let resource = |number| Arc::new(EncodedResource::new(TypeUrl::ENDPOINT, &name(number), b""));
        Arc::new(ResourceSet::new(TypeUrl::ENDPOINT, numbers.map(resource)))
    }

    /// Random edits, among them sets that share few names with the subscription and sets that follow each other.
    #[test]
    fn names_are_those_of_a_plain_set_whatever_they_are_kept_as() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut names, mut plain) = (Names::default(), BTreeSet::new());
        let (mut switches, mut latest) = (0, set(0..40));
        for _ in 0..20_000 {
            let one = name(random(60));
            let was_shared = names.of.is_some();
            match random(12) {
                0..6 => assert_eq!(names.insert(Arc::clone(&one)), plain.insert(one)),
                6..9 => assert_eq!(names.remove(&one), plain.remove(&one)),
                9 => names.relate_to(&latest),
                10 => {
                    let gone = latest.get(&one).is_some();
                    let resource = EncodedResource::new(TypeUrl::ENDPOINT, &one, b"");
                    latest = latest.edited([(one, (!gone).then(|| Arc::new(resource)))]);
                }
                _ if random(50) == 0 => latest = set((0..60).filter(|_| random(2) == 0)),
                _ => {}
            }
            switches += usize::from(names.of.is_some() != was_shared);
            assert_eq!(names.len(), plain.len());
            assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), plain);
            let asked = name(random(60));
            assert_eq!(names.contains(&asked), plain.contains(&asked));
        }
        assert!(switches > 20, "{switches}");
    }
}
