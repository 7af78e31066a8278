//! What a client holds of one type.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::name_map::NameMap;
use crate::resource::{EncodedResource, Version};
use crate::set::ResourceSet;

/// What the client holds of one resource. A subscribed name without any must be answered.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// Sent on this stream. The bytes are kept, because a resource that is to be removed may be listed once more.
    Sent(Arc<EncodedResource>),
    /// The client has this version from an earlier stream (`initial_resource_versions`).
    Claimed(Version),
    /// The client waits for the resource, although it has this one.
    Again(Arc<EncodedResource>),
    /// The client waits for the resource, whatever it holds.
    Unknown,
    /// The client was sent the removal of this resource.
    Absent,
}

/// A resource that the client has.
#[derive(Clone, Debug)]
pub struct AcceptedResource {
    /// Its name.
    pub name: Arc<str>,
    /// Its version.
    pub version: Version,
    /// The resource; `None` if it comes from an earlier stream, of which the client told the version alone.
    pub resource: Option<Arc<EncodedResource>>,
}

impl Held {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Sent(resource) => resource.version(),
            Self::Claimed(version) => *version,
            Self::Again(_) | Self::Unknown | Self::Absent => Version::default(),
        }
    }

    /// The same, to be sent again.
    pub(crate) fn again(held: Option<Self>) -> Self {
        match held {
            Some(Self::Sent(resource) | Self::Again(resource)) => Self::Again(resource),
            _ => Self::Unknown,
        }
    }

    /// Whether this is a resource of that version, whether or not the client waits for it.
    pub(crate) fn carries(&self, version: Version) -> bool {
        self.clone().had().is_some_and(|held| held.version() == version)
    }

    /// What the client has, whether or not it waits for it.
    pub(crate) fn had(self) -> Option<Self> {
        match self {
            Self::Sent(resource) | Self::Again(resource) => Some(Self::Sent(resource)),
            Self::Claimed(version) => Some(Self::Claimed(version)),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Whether the client has the resource.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Sent(_) | Self::Claimed(_))
    }
}

/// What the client holds, kept as the difference from the set that it was last brought up to date with: a client that
/// has all of it costs a reference.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    base: Option<Arc<ResourceSet>>,
    /// What is held otherwise than `base` has it. `None` = nothing.
    other: NameMap<Option<Held>>,
    /// The names in `other` that were put there since the client was up to date.
    pending: BTreeSet<Arc<str>>,
}

impl Holdings {
    /// All of a set is held.
    pub(crate) fn all_of(set: &Arc<ResourceSet>) -> Self {
        Self { base: Some(Arc::clone(set)), ..Self::default() }
    }

    /// About how many bytes it takes by itself.
    pub(crate) fn bytes(&self) -> usize {
        self.other.bytes()
    }

    /// What is held of a subscribed name.
    pub(crate) fn get(&self, name: &str) -> Option<Held> {
        match self.other.get(name) {
            Some(held) => held.clone(),
            None => self.base.as_ref()?.get(name).map(|resource| Held::Sent(Arc::clone(resource))),
        }
    }

    /// Sets what is held of a subscribed name.
    pub(crate) fn put(&mut self, name: Arc<str>, held: Option<Held>) {
        self.pending.insert(Arc::clone(&name));
        self.other.insert(name, held);
    }

    /// Forgets a name that is not subscribed any more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.pending.remove(name);
        self.other.remove(name);
    }

    /// Everything that is held of the names that `subscribed` lets through, in no order.
    pub(crate) fn iter(&self, subscribed: impl Fn(&str) -> bool) -> impl Iterator<Item = (Arc<str>, Held)> {
        let of_base = self.base.iter().flat_map(|set| set.iter());
        let of_base = of_base.filter(move |one| !self.other.contains(one.name()) && subscribed(one.name()));
        let of_base = of_base.map(|one| (Arc::clone(one.name()), Held::Sent(Arc::clone(one))));
        let other = self.other.iter().filter_map(|(name, held)| Some((Arc::clone(name), held.clone()?)));
        of_base.chain(other)
    }

    /// Keeps everything name by name, for a change of the subscription that is not about single names.
    pub(crate) fn unfold(&mut self, subscribed: impl Fn(&str) -> bool) {
        let all: NameMap<_> = self.iter(subscribed).map(|(name, held)| (name, Some(held))).collect();
        self.pending = all.names().cloned().collect();
        self.other = all;
        self.base = None;
    }

    /// The set that the client was last brought up to date with.
    pub(crate) fn base(&self) -> Option<&Arc<ResourceSet>> {
        self.base.as_ref()
    }

    /// The names to compare besides those in which `base` and the newest set differ.
    pub(crate) fn pending(&self) -> &BTreeSet<Arc<str>> {
        &self.pending
    }

    /// The names that are held otherwise than `base` has them.
    pub(crate) fn other_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.other.names()
    }

    /// The client is up to date with `set`: everything that it subscribed to of it was sent.
    pub(crate) fn settle(&mut self, set: &Arc<ResourceSet>) {
        for name in std::mem::take(&mut self.pending) {
            let there = set.get(&name).map(|resource| resource.version());
            let redundant = match self.other.get(&name) {
                Some(Some(held)) => held.is_there() && there == Some(held.version()),
                Some(None) => there.is_none(),
                None => false,
            };
            if redundant {
                self.other.remove(&name);
            }
        }
        self.base = Some(Arc::clone(set));
    }
}
