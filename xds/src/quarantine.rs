//! What a client refused, and what it has instead (XDS.md X68 to X71).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::held::Held;
use crate::resource::{EncodedResource, Version};
use crate::response::Serial;

/// The number of responses that are remembered until they are answered. Older ones count as accepted.
const MAX_FLIGHTS: usize = 4;

/// The resources that a client refused, and the responses that it has not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Not sent again until another version takes its place.
    refused: BTreeMap<Arc<str>, Refused>,
    flights: VecDeque<Flight>,
}

/// A resource that the client refused.
#[derive(Debug)]
struct Refused {
    version: Version,
    /// What the client had before, if that is known.
    good: Option<Arc<EncodedResource>>,
}

/// A response on its way.
#[derive(Debug)]
struct Flight {
    serial: Serial,
    changed: Vec<Arc<EncodedResource>>,
    removed: Vec<Arc<str>>,
    /// What the client had of these, where it had something.
    before: BTreeMap<Arc<str>, Held>,
}

/// A resource that a refused response changed, and what the client had of it before.
pub(crate) struct Suspect {
    pub(crate) resource: Arc<EncodedResource>,
    pub(crate) before: Option<Held>,
}

impl Quarantine {
    /// Records what a response changes.
    pub(crate) fn depart(
        &mut self,
        serial: Serial,
        changed: &[Arc<EncodedResource>],
        removed: &[Arc<str>],
        before: impl Fn(&str) -> Option<Held>,
    ) {
        for resource in changed {
            // What is sent is the good one, or a version that was not refused yet.
            if self.refused.get(resource.name()).is_some_and(|one| !one.is_good(resource)) {
                self.refused.remove(resource.name());
            }
        }
        // What had nothing to say was not sent, and its number is used again.
        self.flights.retain(|flight| flight.serial != serial);
        if changed.is_empty() && removed.is_empty() {
            return;
        }
        let names = changed.iter().map(|one| one.name()).chain(removed);
        let before = names.filter_map(|name| Some((Arc::clone(name), before(name)?))).collect();
        let (changed, removed) = (changed.to_vec(), removed.to_vec());
        self.flights.push_back(Flight { serial, changed, removed, before });
        if self.flights.len() > MAX_FLIGHTS {
            self.flights.pop_front();
        }
    }

    /// The client accepted a response, and with it those before it.
    pub(crate) fn land(&mut self, serial: Serial) {
        self.flights.retain(|flight| flight.serial > serial);
        if self.flights.is_empty() {
            self.flights.shrink_to_fit();
        }
    }

    /// The client refused a response: what it changed, and what it removed with what the client had of it. Responses
    /// after it no longer count what it brought as had.
    pub(crate) fn crash(&mut self, serial: Serial) -> (Vec<Suspect>, Vec<(Arc<str>, Held)>) {
        let at = self.flights.iter().position(|flight| flight.serial == serial);
        let flight = at.and_then(|at| self.flights.remove(at));
        self.land(serial);
        let Some(Flight { changed, removed, mut before, .. }) = flight else { return Default::default() };
        let removed = removed.into_iter().filter_map(|name| Some((Arc::clone(&name), before.remove(&name)?)));
        let removed = removed.collect();
        let suspects = changed.into_iter().map(|resource| {
            let before = before.remove(resource.name());
            for later in &mut self.flights {
                later.correct(&resource, before.as_ref());
            }
            Suspect { resource, before }
        });
        (suspects.collect(), removed)
    }

    /// Holds a resource back until it changes.
    pub(crate) fn refuse(&mut self, suspect: &Suspect) {
        let good = match &suspect.before {
            Some(Held::Sent(resource) | Held::Again(resource)) => Some(Arc::clone(resource)),
            _ => None,
        };
        let refused = Refused { version: suspect.resource.version(), good };
        self.refused.insert(Arc::clone(suspect.resource.name()), refused);
    }

    /// What the client may be sent in place of `resource`: itself, or the last good one if it was refused. `None` if
    /// there is no good one.
    pub(crate) fn instead_of<'a>(
        &'a self,
        resource: &'a Arc<EncodedResource>,
    ) -> Option<&'a Arc<EncodedResource>> {
        match self.refused.get(resource.name()) {
            Some(refused) if refused.version == resource.version() => refused.good.as_ref(),
            _ => Some(resource),
        }
    }

    /// Forgets the resources that `stands` does not name any more: they changed, are gone, or are not subscribed.
    pub(crate) fn release(&mut self, stands: impl Fn(&str, Version) -> bool) {
        self.refused.retain(|name, refused| stands(name, refused.version));
    }

    /// Whether nothing is held back.
    pub(crate) fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// What is held back.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&Arc<str>, Version)> {
        self.refused.iter().map(|(name, refused)| (name, refused.version))
    }
}

impl Flight {
    /// The client does not have `resource`, which counted as had when this response was made.
    fn correct(&mut self, resource: &EncodedResource, before: Option<&Held>) {
        if self.before.get(resource.name()).is_some_and(|held| held.carries(resource.version())) {
            match before {
                Some(held) => self.before.insert(Arc::clone(resource.name()), held.clone()),
                None => self.before.remove(resource.name()),
            };
        }
    }
}

impl Refused {
    fn is_good(&self, resource: &EncodedResource) -> bool {
        self.good.as_ref().is_some_and(|good| good.version() == resource.version())
    }
}
