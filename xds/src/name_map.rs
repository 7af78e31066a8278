//! Values by name, with the memory that the names take.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry takes besides the bytes of its name, about: the count of references, and its places in trees.
const ENTRY: usize = 96;

fn cost(name: &str) -> usize {
    ENTRY + name.len()
}

/// A map from names. It knows what it takes, because clients choose the names.
#[derive(Clone, Debug)]
pub(crate) struct NameMap<V> {
    entries: BTreeMap<Arc<str>, V>,
    bytes: usize,
}

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), bytes: 0 }
    }
}

impl<V> NameMap<V> {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.entries.get(name)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Returns the value before.
    pub(crate) fn insert(&mut self, name: Arc<str>, value: V) -> Option<V> {
        let cost = cost(&name);
        let before = self.entries.insert(name, value);
        if before.is_none() {
            self.bytes += cost;
        }
        before
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<V> {
        let removed = self.entries.remove(name)?;
        self.bytes -= cost(name);
        Some(removed)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.entries.iter()
    }
}

impl<V> FromIterator<(Arc<str>, V)> for NameMap<V> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, V)>>(entries: I) -> Self {
        let entries: BTreeMap<Arc<str>, V> = entries.into_iter().collect();
        let bytes = entries.keys().map(|name| cost(name)).sum();
        Self { entries, bytes }
    }
}
