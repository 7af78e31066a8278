//! The subscription of a stream to one type, and the resources that the client holds: one object for both variants
//! (XDS.md X60).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{EncodedResource, Version};
use crate::response::Payload;
use crate::set::ResourceSet;

/// The name that stands for all resources.
const WILDCARD: &str = "*";

/// The subscribed names of one type, and what was last sent for each of them.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    wildcard: bool,
    /// A name was subscribed before: an empty list no longer means the wildcard (XDS.md X19).
    ever_named: bool,
    names: BTreeSet<Arc<str>>,
    held: BTreeMap<Arc<str>, Held>,
    /// The sum of all versions in `held`.
    version: Version,
}

/// What the client holds of one resource. A subscribed name without an entry must be answered.
#[derive(Clone, Debug)]
enum Held {
    /// Sent on this stream. The bytes are kept, because a resource that is to be removed may be listed once more.
    Sent(Arc<EncodedResource>),
    /// The client has this version from an earlier stream (`initial_resource_versions`).
    Claimed(Version),
    /// The client waits for the resource, whatever it holds.
    Unknown,
    /// The client was sent the removal of this resource.
    Absent,
}

impl Held {
    fn version(&self) -> Version {
        match self {
            Self::Sent(resource) => resource.version(),
            Self::Claimed(version) => *version,
            Self::Unknown | Self::Absent => Version::default(),
        }
    }
}

/// The difference between what a client holds and what it should hold.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    /// New or changed, sorted by name.
    pub(crate) changed: Vec<Arc<EncodedResource>>,
    /// Subscribed, but the resource does not exist.
    pub(crate) missing: Vec<Arc<str>>,
    /// Removed; the client may still use it.
    pub(crate) leaving: Vec<Arc<str>>,
    /// Removed as well, but replaced by an empty resource (an empty assignment).
    pub(crate) emptied: Vec<Arc<EncodedResource>>,
}

impl Diff {
    /// Whether a resource is removed that the client may still use.
    pub(crate) fn has_removals(&self) -> bool {
        !self.emptied.is_empty() || !self.leaving.is_empty()
    }
}

impl Subscription {
    /// State-of-the-world: `names` is the complete list (XDS.md X16 to X22). Returns whether a name or the
    /// wildcard was added.
    pub(crate) fn replace(&mut self, names: Vec<String>, empty_means_all: bool) -> bool {
        let all = names.is_empty() && !self.ever_named && empty_means_all;
        let wildcard = all || names.iter().any(|name| name == WILDCARD);
        self.ever_named |= !names.is_empty();
        let wanted: BTreeSet<Arc<str>> =
            names.into_iter().filter(|name| name != WILDCARD).map(Arc::from).collect();
        if wildcard == self.wildcard && wanted == self.names {
            return false;
        }
        let added: Vec<_> = wanted.difference(&self.names).cloned().collect();
        added.iter().for_each(|name| self.unhold(name));
        let grown = !added.is_empty() || (wildcard && !self.wildcard);
        self.wildcard = wildcard;
        self.names = wanted;
        self.forget_unsubscribed();
        grown
    }

    /// Delta, first request of the type (XDS.md X27, X34, X36).
    pub(crate) fn begin(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        claims: &BTreeMap<String, String>,
    ) {
        self.wildcard = subscribe.is_empty();
        self.change(subscribe, unsubscribe);
        for (name, version) in claims {
            if self.wants(name) {
                let held = Version::parse(version).map_or(Held::Unknown, Held::Claimed);
                self.hold(name.as_str().into(), held);
            }
        }
    }

    /// Delta: names are subscribed and unsubscribed (XDS.md X30 to X33). Returns whether a response is due.
    pub(crate) fn change(&mut self, subscribe: &[String], unsubscribe: &[String]) -> bool {
        self.ever_named |= !subscribe.is_empty();
        subscribe.iter().for_each(|name| self.subscribe(name));
        let answer_due = unsubscribe.iter().map(|name| self.unsubscribe(name)).fold(false, |a, b| a | b);
        !subscribe.is_empty() || answer_due
    }

    fn subscribe(&mut self, name: &str) {
        if name == WILDCARD {
            if std::mem::replace(&mut self.wildcard, true) {
                let held: Vec<_> = self.held.keys().cloned().collect();
                held.into_iter().for_each(|name| self.hold(name, Held::Unknown));
            }
        } else {
            let name: Arc<str> = name.into();
            self.names.insert(Arc::clone(&name));
            self.hold(name, Held::Unknown);
        }
    }

    /// Returns whether a response is due: with the wildcard, a name that is unsubscribed is still subscribed.
    fn unsubscribe(&mut self, name: &str) -> bool {
        if name == WILDCARD {
            self.wildcard = false;
            self.forget_unsubscribed();
        } else if self.names.remove(name) {
            if self.wildcard {
                self.hold(name.into(), Held::Unknown);
                return true;
            }
            self.unhold(name);
        }
        false
    }

    /// Marks `name` to be sent again, even if it did not change. Returns whether it is subscribed.
    pub(crate) fn repeat(&mut self, name: &Arc<str>) -> bool {
        let wanted = self.wants(name);
        if wanted {
            self.hold(Arc::clone(name), Held::Unknown);
        }
        wanted
    }

    /// Whether the name is subscribed, by itself or by the wildcard.
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The difference between what the client holds and `set`. If the set of version `since` was sent before, only the
    /// names that changed since then are compared.
    pub(crate) fn diff(&self, set: &ResourceSet, since: Option<Version>) -> Diff {
        let mut diff = Diff::default();
        match since.and_then(|version| set.changed_since(version)) {
            Some(names) => names.iter().for_each(|name| self.compare(name, set, &mut diff)),
            None => self.candidates(set).into_iter().for_each(|name| self.compare(name, set, &mut diff)),
        }
        diff
    }

    /// All names that may have to be sent or removed.
    fn candidates<'a>(&'a self, set: &'a ResourceSet) -> BTreeSet<&'a Arc<str>> {
        let all = set.iter().filter(|_| self.wildcard).map(|resource| resource.name());
        self.names.iter().chain(self.held.keys()).chain(all).collect()
    }

    fn compare(&self, name: &Arc<str>, set: &ResourceSet, diff: &mut Diff) {
        let named = self.names.contains(name);
        if !self.wildcard && !named {
            return;
        }
        let held = self.held.get(name);
        if let Some(resource) = set.get(name) {
            if held.is_none_or(|held| held.version() != resource.version()) {
                diff.changed.push(Arc::clone(resource));
            }
        } else if let Some(empty) = set.absent(name).filter(|_| named) {
            match held {
                None | Some(Held::Unknown | Held::Absent) => diff.changed.push(empty),
                Some(held) if held.version() == empty.version() => {}
                Some(_) => diff.emptied.push(empty),
            }
        } else {
            match held {
                Some(Held::Sent(_) | Held::Claimed(_)) => diff.leaving.push(Arc::clone(name)),
                Some(Held::Unknown) => diff.missing.push(Arc::clone(name)),
                None if named => diff.missing.push(Arc::clone(name)),
                None | Some(Held::Absent) => {}
            }
        }
    }

    /// Records what a response contains.
    pub(crate) fn record_sent(&mut self, changed: &[Arc<EncodedResource>], removed: &[Arc<str>]) {
        for resource in changed {
            self.hold(Arc::clone(resource.name()), Held::Sent(Arc::clone(resource)));
        }
        for name in removed {
            if self.names.contains(name) {
                self.hold(Arc::clone(name), Held::Absent);
            } else {
                self.unhold(name);
            }
        }
    }

    /// All subscribed resources of `set`, for types whose responses are complete. Resources that are removed later
    /// (`leaving`) are listed as they were last sent.
    pub(crate) fn listing(&self, set: &Arc<ResourceSet>, leaving: &[Arc<str>]) -> Payload {
        if self.wildcard && leaving.is_empty() {
            return Payload::Whole(Arc::clone(set));
        }
        let wanted = set.iter().filter(|resource| self.wants(resource.name()));
        let stale = leaving.iter().filter_map(|name| match self.held.get(name) {
            Some(Held::Sent(resource)) => Some(resource),
            _ => None,
        });
        Payload::Some(wanted.chain(stale).cloned().collect())
    }

    /// The version of everything that the client holds. It changes with the content and only with it (XDS.md X7).
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether the wildcard is subscribed.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The number of names that the client subscribed to.
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }

    /// Name and version of every resource that the client holds.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&Arc<str>, Version)> {
        let there = self.held.iter().filter(|(_, held)| matches!(held, Held::Sent(_) | Held::Claimed(_)));
        there.map(|(name, held)| (name, held.version()))
    }

    /// The version of `name` that the client holds.
    pub(crate) fn held_version(&self, name: &str) -> Option<Version> {
        self.held.get(name).map(Held::version)
    }

    fn hold(&mut self, name: Arc<str>, held: Held) {
        self.version = self.version.plus(held.version());
        if let Some(before) = self.held.insert(name, held) {
            self.version = self.version.minus(before.version());
        }
    }

    fn unhold(&mut self, name: &str) {
        if let Some(before) = self.held.remove(name) {
            self.version = self.version.minus(before.version());
        }
    }

    /// Forgets names that are no longer subscribed, so that a new subscription sends them again (XDS.md X22).
    fn forget_unsubscribed(&mut self) {
        if !self.wildcard {
            let unsubscribed: Vec<_> =
                self.held.keys().filter(|name| !self.names.contains(*name)).cloned().collect();
            unsubscribed.iter().for_each(|name| self.unhold(name));
        }
    }
}
