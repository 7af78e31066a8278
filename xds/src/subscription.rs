//! The subscription of a stream to one type, and the resources that the client holds: one object for both variants
//! (XDS.md X60).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::held::{AcceptedResource, Held, Holdings};
use crate::names::Names;
use crate::quarantine::Quarantine;
use crate::resource::{EncodedResource, Version};
use crate::response::{Payload, Serial};
use crate::set::ResourceSet;

/// The name that stands for all resources.
const WILDCARD: &str = "*";

/// The subscribed names of one type, and what was last sent for each of them.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    wildcard: bool,
    /// A name was subscribed before: an empty list no longer means the wildcard (XDS.md X19).
    ever_named: bool,
    names: Names,
    /// The hash of the list of the last state-of-the-world request: most requests repeat it.
    listed: Option<u64>,
    holdings: Holdings,
    quarantine: Quarantine,
    /// The sum of all versions that are held.
    version: Version,
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
        let listed = hash(&names);
        if self.listed.replace(listed) == Some(listed) {
            return false;
        }
        let all = names.is_empty() && !self.ever_named && empty_means_all;
        let wildcard = all || names.iter().any(|name| name == WILDCARD);
        self.ever_named |= !names.is_empty();
        let wanted: BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
        let added = wanted.iter().any(|name| !self.names.contains(name));
        if wildcard == self.wildcard && !added && wanted.len() == self.names.len() {
            return false;
        }
        self.unfold();
        for name in &wanted {
            if !self.names.contains(name) {
                match self.wildcard {
                    true => self.ask_again(&Arc::from(*name)),
                    false => self.unhold(name),
                }
            }
        }
        let grown = added || (wildcard && !self.wildcard);
        self.wildcard = wildcard;
        self.names = wanted.into_iter().map(Arc::from).collect();
        self.forget_unsubscribed();
        grown
    }

    /// Delta, first request of the type (XDS.md X27, X34, X36). `set`: what the client may get now.
    pub(crate) fn begin(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        claims: &BTreeMap<String, String>,
        set: Option<&Arc<ResourceSet>>,
    ) {
        if let Some(set) = set.filter(|set| unsubscribe.is_empty() && is_all_of(set, claims))
            && (is_wildcard(subscribe) || set.has_names(subscribe))
        {
            self.begin_with(set, is_wildcard(subscribe), !subscribe.is_empty());
            return;
        }
        self.wildcard = subscribe.is_empty();
        self.change(subscribe, unsubscribe);
        for (name, version) in claims {
            if self.wants(name) {
                let held = Version::parse(version).map_or(Held::Unknown, Held::Claimed);
                self.hold(name.as_str().into(), held);
            }
        }
    }

    /// The client holds all of `set` and wants nothing else.
    fn begin_with(&mut self, set: &Arc<ResourceSet>, wildcard: bool, named: bool) {
        self.wildcard = wildcard;
        self.ever_named = named;
        if !wildcard {
            self.names = Names::all_of(set);
        }
        self.holdings = Holdings::all_of(set);
        self.version = set.version();
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
            let again = self.wildcard;
            self.unfold();
            self.wildcard = true;
            if again {
                let held: Vec<_> = self.holdings.pending().iter().cloned().collect();
                held.iter().for_each(|name| self.ask_again(name));
            }
        } else {
            let name: Arc<str> = name.into();
            self.ask_again(&name);
            self.names.insert(name);
        }
    }

    /// Returns whether a response is due: with the wildcard, a name that is unsubscribed is still subscribed.
    fn unsubscribe(&mut self, name: &str) -> bool {
        if name == WILDCARD {
            self.unfold();
            self.wildcard = false;
            self.forget_unsubscribed();
        } else if self.names.contains(name) {
            if self.wildcard {
                self.names.remove(name);
                self.ask_again(&name.into());
                return true;
            }
            self.forget(name);
            self.names.remove(name);
        }
        false
    }

    /// Marks `name` to be sent again, even if it did not change. Returns whether it is subscribed.
    pub(crate) fn repeat(&mut self, name: &Arc<str>) -> bool {
        let wanted = self.wants(name);
        if wanted {
            self.ask_again(name);
        }
        wanted
    }

    /// Marks a name to be sent, even if the client has it.
    fn ask_again(&mut self, name: &Arc<str>) {
        let held = if self.wants(name) { self.holdings.get(name) } else { None };
        self.hold(Arc::clone(name), Held::again(held));
    }

    /// Whether the name is subscribed, by itself or by the wildcard.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the client was sent everything that it subscribed to of this set.
    pub(crate) fn is_up_to_date(&self, set: &ResourceSet) -> bool {
        self.holdings.pending().is_empty()
            && self.holdings.base().is_some_and(|base| base.version() == set.version())
    }

    /// The difference between what the client holds and `set`. If it is known how the set differs from the one that was
    /// sent last, only that is compared, and what the client waits for.
    pub(crate) fn diff(&self, set: &ResourceSet) -> Diff {
        let mut diff = Diff::default();
        let changed = self.holdings.base().and_then(|base| set.changed_since(base.version()));
        let candidates: BTreeSet<&Arc<str>> = match changed {
            Some(mut names) => {
                names.extend(self.holdings.pending());
                names
            }
            None => self.candidates(set),
        };
        candidates.into_iter().for_each(|name| self.compare(name, set, &mut diff));
        diff
    }

    /// All names that may have to be sent or removed.
    fn candidates<'a>(&'a self, set: &'a ResourceSet) -> BTreeSet<&'a Arc<str>> {
        let all = set.iter().filter(|_| self.wildcard).map(|resource| resource.name());
        let base = self.holdings.base().filter(|_| self.wildcard).into_iter().flat_map(|base| base.iter());
        let base = base.map(|resource| resource.name());
        self.names.iter().chain(self.holdings.other_names()).chain(base).chain(all).collect()
    }

    fn compare(&self, name: &Arc<str>, set: &ResourceSet, diff: &mut Diff) {
        let named = self.names.contains(name);
        if !self.wildcard && !named {
            return;
        }
        let held = self.holdings.get(name);
        if let Some(resource) = set.get(name) {
            let Some(resource) = self.quarantine.instead_of(resource) else { return };
            if held.is_none_or(|held| held.version() != resource.version()) {
                diff.changed.push(Arc::clone(resource));
            }
        } else if let Some(empty) = set.absent(name).filter(|_| named) {
            match held {
                None | Some(Held::Again(_) | Held::Unknown | Held::Absent) => diff.changed.push(empty),
                Some(held) if held.version() == empty.version() => {}
                Some(_) => diff.emptied.push(empty),
            }
        } else {
            match held {
                Some(Held::Sent(_) | Held::Claimed(_)) => diff.leaving.push(Arc::clone(name)),
                Some(Held::Again(_) | Held::Unknown) => diff.missing.push(Arc::clone(name)),
                None if named => diff.missing.push(Arc::clone(name)),
                None | Some(Held::Absent) => {}
            }
        }
    }

    /// The client is up to date with `set`, whose last response was recorded.
    pub(crate) fn settle(&mut self, set: &Arc<ResourceSet>) {
        if !self.quarantine.is_empty() {
            self.settle_refused(set);
        }
        self.holdings.settle(set);
        self.names.relate_to(set);
        debug_assert_eq!(
            self.version,
            self.all().fold(Version::default(), |sum, (_, held)| sum.plus(held.version())),
            "the version is the sum of what is held"
        );
    }

    /// Forgets what is refused no longer. Of the rest, the client does not have what `set` has.
    fn settle_refused(&mut self, set: &ResourceSet) {
        let (wildcard, names) = (self.wildcard, &self.names);
        self.quarantine.release(|name, version| {
            let stands = set.get(name).is_some_and(|resource| resource.version() == version);
            stands && (wildcard || names.contains(name))
        });
        for (name, _) in self.quarantine.refused() {
            let held = self.holdings.get(name);
            self.holdings.put(Arc::clone(name), held);
        }
    }

    /// The response of that number was accepted.
    pub(crate) fn accept(&mut self, serial: Serial) {
        self.quarantine.land(serial);
    }

    /// The response of that number was refused (XDS.md X68 to X71). What the message names of it, else all that it
    /// changed, is held back until it changes, and the client has what it had before.
    pub(crate) fn refuse(&mut self, serial: Serial, mentions: impl Fn(&str) -> bool, others_taken: bool) {
        let (suspects, removed) = self.quarantine.crash(serial);
        // What is removed is so once more, if there is a response to come.
        for (name, before) in removed.into_iter().filter(|_| !suspects.is_empty() && !others_taken) {
            if self.wants(&name) && self.holdings.get(&name).is_none_or(|held| !held.is_there()) {
                self.hold(name, before);
            }
        }
        let some_named = suspects.iter().any(|one| mentions(one.resource.name()));
        for suspect in suspects {
            let (name, version) = (Arc::clone(suspect.resource.name()), suspect.resource.version());
            let is_bad = !some_named || mentions(&name);
            // A newer version may be on its way.
            let is_newest = self.wants(&name) && self.held_version(&name) == Some(version);
            // What the client has already was sent again with the others.
            let is_old = suspect.before.as_ref().is_some_and(|before| before.carries(version));
            if !is_newest || (!is_bad && others_taken) {
                continue;
            }
            if is_bad && !is_old {
                self.quarantine.refuse(&suspect);
            }
            self.set(Arc::clone(&name), None);
            let before = match suspect.before {
                // It may have something, which is to be removed some day.
                Some(Held::Unknown) => Some(Held::Unknown),
                before if some_named && !is_bad => before,
                before => before.and_then(Held::had),
            };
            if let Some(before) = before {
                self.hold(name, before);
            }
        }
    }

    /// What is held back, by name.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&Arc<str>, Version)> {
        self.quarantine.refused()
    }

    /// Whether nothing is held back.
    pub(crate) fn accepts_all(&self) -> bool {
        self.quarantine.is_empty()
    }

    /// Records what a response contains.
    pub(crate) fn record_sent(
        &mut self,
        serial: Serial,
        changed: &[Arc<EncodedResource>],
        removed: &[Arc<str>],
    ) {
        let holdings = &self.holdings;
        // The client may have what nobody knows: of that, a removal that is refused is due again.
        let has = |name: &str| holdings.get(name).filter(|held| !matches!(held, Held::Absent));
        let is_wanted = |name: &str| self.wildcard || self.names.contains(name);
        self.quarantine.depart(serial, changed, removed, |name| has(name).filter(|_| is_wanted(name)));
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
        if self.wildcard && leaving.is_empty() && self.quarantine.is_empty() {
            return Payload::Whole(Arc::clone(set));
        }
        let wanted = set.iter().filter(|resource| self.wants(resource.name()));
        let wanted = wanted.filter_map(|resource| self.quarantine.instead_of(resource));
        let stale = leaving.iter().filter_map(|name| match self.holdings.get(name) {
            Some(Held::Sent(resource)) => Some(resource),
            _ => None,
        });
        Payload::Some(wanted.cloned().chain(stale).collect())
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

    /// Those names.
    pub(crate) fn subscribed_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// About how many bytes it takes, without what it shares with others.
    pub(crate) fn bytes(&self) -> usize {
        self.names.bytes() + self.holdings.bytes()
    }

    /// Name and version of every resource that the client holds, in no order.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Arc<str>, Version)> {
        self.all().filter(|(_, held)| held.is_there()).map(|(name, held)| (name, held.version()))
    }

    /// The same with the resources themselves.
    pub(crate) fn held_resources(&self) -> impl Iterator<Item = AcceptedResource> {
        self.all().filter(|(_, held)| held.is_there()).map(|(name, held)| {
            let version = held.version();
            let resource = match held {
                Held::Sent(resource) => Some(resource),
                Held::Claimed(_) | Held::Again(_) | Held::Unknown | Held::Absent => None,
            };
            AcceptedResource { name, version, resource }
        })
    }

    /// The version of `name` that the client holds.
    pub(crate) fn held_version(&self, name: &str) -> Option<Version> {
        if self.wants(name) { self.holdings.get(name).map(|held| held.version()) } else { None }
    }

    fn all(&self) -> impl Iterator<Item = (Arc<str>, Held)> {
        self.holdings.iter(|name| self.wants(name))
    }

    fn hold(&mut self, name: Arc<str>, held: Held) {
        self.version = self.version.plus(held.version());
        self.set(name, Some(held));
    }

    fn unhold(&mut self, name: &str) {
        self.set(name.into(), None);
    }

    fn set(&mut self, name: Arc<str>, held: Option<Held>) {
        self.version = self.version.minus(self.held_version(&name).unwrap_or_default());
        self.holdings.put(name, held);
    }

    /// Forgets what is held of a name that is subscribed no longer.
    fn forget(&mut self, name: &str) {
        let before = self.holdings.get(name).map(|held| held.version());
        self.version = self.version.minus(before.unwrap_or_default());
        self.holdings.forget(name);
    }

    /// Before a change of the subscription that is not about single names.
    fn unfold(&mut self) {
        self.holdings.unfold(|name| self.wildcard || self.names.contains(name));
    }

    /// Forgets names that are no longer subscribed, so that a new subscription sends them again (XDS.md X22).
    fn forget_unsubscribed(&mut self) {
        if !self.wildcard {
            let held = self.holdings.pending().iter();
            let unsubscribed: Vec<_> = held.filter(|name| !self.names.contains(name)).cloned().collect();
            unsubscribed.iter().for_each(|name| self.forget(name));
        }
    }
}

/// Whether a first request of delta asks for everything and names nothing.
fn is_wildcard(subscribe: &[String]) -> bool {
    subscribe.is_empty() || matches!(subscribe, [name] if name == WILDCARD)
}

/// Whether these are name and version of all resources of a set. A version is the hash of name and content, so those of
/// a set are known by their number and their sum.
fn is_all_of(set: &ResourceSet, claims: &BTreeMap<String, String>) -> bool {
    let sum = || {
        let mut versions = claims.values().map(|text| Version::parse(text));
        versions.try_fold(Version::default(), |sum, version| Some(sum.plus(version?)))
    };
    !set.is_empty() && claims.len() == set.len() && sum() == Some(set.version())
}

/// The hash of a list of names, in its order.
fn hash(names: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}
