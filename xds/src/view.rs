//! The resources that one proxy may get.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::set::ResourceSet;
use crate::type_url::TypeUrl;

/// One consistent snapshot of everything a proxy may get; immutable, shared by all streams with the same entitlement.
///
/// A type without a set is unknown to this view: requests for it are remembered but not answered (XDS.md X9).
#[derive(Clone, Debug, Default)]
pub struct View {
    sets: BTreeMap<TypeUrl, Arc<ResourceSet>>,
}

impl View {
    /// Of several sets of the same type the last one counts.
    pub fn new(sets: impl IntoIterator<Item = Arc<ResourceSet>>) -> Self {
        Self { sets: sets.into_iter().map(|set| (set.type_url().clone(), set)).collect() }
    }

    /// The view that follows this one: the same `Arc` if every set is the same, so that readers see no change.
    #[must_use]
    pub fn next(self: &Arc<Self>, sets: impl IntoIterator<Item = Arc<ResourceSet>>) -> Arc<Self> {
        let next = Self::new(sets);
        let same = next.sets.len() == self.sets.len()
            && next.sets.iter().zip(&self.sets).all(|((_, new), (_, old))| Arc::ptr_eq(new, old));
        if same { Arc::clone(self) } else { Arc::new(next) }
    }

    /// The resources of a type.
    pub fn get(&self, type_url: &TypeUrl) -> Option<&Arc<ResourceSet>> {
        self.sets.get(type_url)
    }

    /// All sets in push order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceSet>> {
        self.sets.values()
    }
}
