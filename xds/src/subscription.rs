//! What a client wants of one type and what it holds: one object for both variants (XDS.md X60).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{EncodedResource, Version};
use crate::response::Payload;
use crate::set::ResourceSet;

/// The name that stands for all resources.
const WILDCARD: &str = "*";

/// Interest in the resources of one type, and the last thing the client was told about each.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    wildcard: bool,
    /// Once anything was named, an empty list no longer means everything (XDS.md X19).
    ever_named: bool,
    names: BTreeSet<Arc<str>>,
    held: BTreeMap<Arc<str>, Held>,
    /// The sum of all versions in `held`.
    version: Version,
}

/// What a client knows about one resource. No entry: nothing; if the name is subscribed it must be told.
#[derive(Clone, Debug)]
enum Held {
    /// Sent on this stream. Kept whole: a resource that leaves may have to be shown once more.
    Sent(Arc<EncodedResource>),
    /// The client said that it has this version from an earlier stream.
    Claimed(Version),
    /// The client waits to be told anew, whatever it holds.
    Unknown,
    /// The client was told that there is no such resource.
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
    /// Asked for, and not there.
    pub(crate) missing: Vec<Arc<str>>,
    /// Gone; the client may still be using it.
    pub(crate) leaving: Vec<Arc<str>>,
    /// Gone as well, but there is something to say instead (an empty assignment).
    pub(crate) emptied: Vec<Arc<EncodedResource>>,
}

impl Diff {
    /// Whether something goes that the client may still be using.
    pub(crate) fn takes_away(&self) -> bool {
        !self.emptied.is_empty() || !self.leaving.is_empty()
    }
}

impl Subscription {
    /// State-of-the-world: `names` is the complete list (XDS.md X16 to X22). Returns whether the client now
    /// wants something that it did not want before.
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
        self.forget_unwanted();
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

    /// Delta: names come and go (XDS.md X30 to X33). Returns whether the client waits for something.
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

    /// Returns whether the client must be told something: a name dropped beside the wildcard is still wanted.
    fn unsubscribe(&mut self, name: &str) -> bool {
        if name == WILDCARD {
            self.wildcard = false;
            self.forget_unwanted();
        } else if self.names.remove(name) {
            if self.wildcard {
                self.hold(name.into(), Held::Unknown);
                return true;
            }
            self.unhold(name);
        }
        false
    }

    /// Lets `name` be sent again, even unchanged. Returns whether the client wants it at all.
    pub(crate) fn repeat(&mut self, name: &Arc<str>) -> bool {
        let wanted = self.wants(name);
        if wanted {
            self.hold(Arc::clone(name), Held::Unknown);
        }
        wanted
    }

    /// Whether a resource of this name would be sent.
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// What is to be said so that the client holds what `set` has for it. If everything was said about the set of
    /// version `since`, only the difference between the sets is looked at.
    pub(crate) fn diff(&self, set: &ResourceSet, since: Option<Version>) -> Diff {
        let mut diff = Diff::default();
        match since.and_then(|version| set.changed_since(version)) {
            Some(names) => names.iter().for_each(|name| self.compare(name, set, &mut diff)),
            None => self.candidates(set).into_iter().for_each(|name| self.compare(name, set, &mut diff)),
        }
        diff
    }

    /// Every name there may be something to say about.
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

    /// Records that the client is being told this.
    pub(crate) fn told(&mut self, changed: &[Arc<EncodedResource>], removed: &[Arc<str>]) {
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

    /// Everything of `set` that the client wants, for types whose responses are complete. Resources that are about
    /// to be taken away (`leaving`) are shown as they were last sent.
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

    /// The version of everything that the client holds: moves with, and only with, content (XDS.md X7).
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether everything is wanted.
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

    /// What is dropped is forgotten, so that it is sent again when it is wanted again (XDS.md X22).
    fn forget_unwanted(&mut self) {
        if !self.wildcard {
            let unwanted: Vec<_> =
                self.held.keys().filter(|name| !self.names.contains(*name)).cloned().collect();
            unwanted.iter().for_each(|name| self.unhold(name));
        }
    }
}
