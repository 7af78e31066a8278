//! One type on one stream: its subscription and its deliveries.

use std::sync::Arc;
use std::time::Instant;

use crate::delivery::{Delivery, Serial};
use crate::error::StreamError;
use crate::request::{Interest, Reaction, Request};
use crate::resource::Version;
use crate::response::{Payload, Variant};
use crate::set::ResourceSet;
use crate::subscription::{Diff, Subscription};
use crate::type_url::TypeUrl;

/// The number of names that one subscription may hold.
pub const MAX_NAMES: usize = 100_000;

/// What a stream knows about one type.
#[derive(Debug)]
pub(crate) struct TypeState {
    pub(crate) subscription: Subscription,
    pub(crate) delivery: Delivery,
    /// The client has been told everything about the set of this version.
    settled: Option<Version>,
    /// The first request is answered even if there is nothing to say (XDS.md X6 and X27).
    answer_due: bool,
    /// The client waits for something: do not hold it back.
    prompt: bool,
}

/// Make before break: first what comes, then what goes (XDS.md X40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Make,
    Break,
}

/// The circumstances of a push.
pub(crate) struct Moment {
    pub(crate) variant: Variant,
    pub(crate) phase: Phase,
    pub(crate) now: Instant,
    /// The number that the response will have.
    pub(crate) serial: Serial,
}

/// The content of a response.
pub(crate) struct Push {
    pub(crate) resources: Payload,
    pub(crate) removed: Vec<Arc<str>>,
    pub(crate) version: Version,
    /// What the client now waits for, though it may have it already.
    pub(crate) warming: Vec<(TypeUrl, Arc<str>)>,
}

impl TypeState {
    /// The first request of a type is answered whatever nonce or version it names (XDS.md X6 and X37).
    pub(crate) fn first(type_url: &TypeUrl, interest: Interest) -> Result<Self, StreamError> {
        let mut subscription = Subscription::default();
        match interest {
            Interest::Names(names) => {
                subscription.replace(names, type_url.empty_means_all());
            }
            Interest::Change { subscribe, unsubscribe, initial_versions } => {
                subscription.begin(&subscribe, &unsubscribe, &initial_versions);
            }
        }
        check_size(type_url, &subscription)?;
        Ok(Self {
            subscription,
            delivery: Delivery::default(),
            settled: None,
            answer_due: true,
            prompt: true,
        })
    }

    /// A later request. `nonce`: none, not ours (`Some(None)`), or the number of a response.
    pub(crate) fn on_request(
        &mut self,
        type_url: &TypeUrl,
        nonce: Option<Option<Serial>>,
        request: Request,
    ) -> Result<Reaction, StreamError> {
        let complete = type_url.is_complete() && matches!(request.interest, Interest::Names(_));
        let waits = match request.interest {
            Interest::Names(names) => {
                let spontaneous = nonce.is_none() || self.delivery.sent.is_none();
                if !spontaneous && !nonce.is_some_and(|serial| self.delivery.is_latest(serial)) {
                    return Ok(Reaction::Stale);
                }
                self.subscription.replace(names, type_url.empty_means_all())
            }
            Interest::Change { subscribe, unsubscribe, .. } => {
                self.subscription.change(&subscribe, &unsubscribe)
            }
        };
        check_size(type_url, &self.subscription)?;
        if waits {
            self.settled = None;
            self.prompt = true;
        }
        // A rejection counts even if the client does not say of what.
        let latest = self.delivery.sent.as_ref().map(|sent| sent.serial);
        let answered = nonce.flatten().or(latest.filter(|_| request.error.is_some()));
        Ok(match answered {
            Some(serial) => self.delivery.answer(serial, request.error, &self.subscription, complete),
            None if nonce.is_some() => Reaction::Stale,
            None => Reaction::Spontaneous,
        })
    }

    /// Lets a resource be sent again.
    pub(crate) fn repeat(&mut self, name: &Arc<str>) {
        if self.subscription.repeat(name) {
            self.settled = None;
            self.prompt = true;
        }
    }

    /// What to send next of this type, if anything. If it must wait, `wakeup` is moved forward to the end of the wait.
    pub(crate) fn next(
        &mut self,
        set: &Arc<ResourceSet>,
        moment: &Moment,
        wakeup: &mut Option<Instant>,
    ) -> Option<Push> {
        if self.settled == Some(set.version()) && !self.answer_due {
            return None;
        }
        if let Some(until) = self.held_back(moment) {
            *wakeup = Some(wakeup.map_or(until, |other| other.min(until)));
            return None;
        }
        let diff = self.subscription.diff(set, self.settled);
        let keep = moment.phase == Phase::Make && set.type_url().leaves_last() && diff.takes_away();
        if keep && diff.changed.is_empty() {
            return None;
        }
        if !keep {
            self.settled = Some(set.version());
        }
        self.push(set, diff, keep, moment)
    }

    /// Turns a difference into a response; with `keep` what leaves stays for the time being.
    fn push(&mut self, set: &Arc<ResourceSet>, diff: Diff, keep: bool, moment: &Moment) -> Option<Push> {
        let Diff { mut changed, missing: mut removed, mut leaving, emptied } = diff;
        if !keep {
            changed.extend(emptied);
            removed.append(&mut leaving);
        }
        let sotw = moment.variant == Variant::StateOfTheWorld;
        let complete = sotw && set.type_url().is_complete();
        let sayable = !changed.is_empty() || (!removed.is_empty() && (complete || !sotw));
        self.prompt = false;
        if !sayable && !self.answer_due {
            self.subscription.told(&changed, &removed);
            return None;
        }
        let listing = complete.then(|| self.subscription.listing(set, &leaving));
        self.subscription.told(&changed, &removed);
        self.answer_due = false;
        let warming = changed.iter().filter_map(|resource| resource.companion().cloned()).collect();
        let resources = listing.unwrap_or_else(|| Payload::new(changed, set));
        let version = self.subscription.version();
        self.delivery.send(moment.serial, version, moment.now);
        let removed = if sotw { Vec::new() } else { removed };
        Some(Push { resources, removed, version, warming })
    }

    /// Until when a push must wait, if it must; see [`Stream`](crate::Stream), "No gates".
    fn held_back(&self, moment: &Moment) -> Option<Instant> {
        let by_name = moment.variant == Variant::StateOfTheWorld && !self.subscription.is_wildcard();
        (by_name && !self.prompt).then(|| self.delivery.waits_until(moment.now)).flatten()
    }
}

fn check_size(type_url: &TypeUrl, subscription: &Subscription) -> Result<(), StreamError> {
    if subscription.names() > MAX_NAMES {
        return Err(StreamError::TooManyNames { type_url: type_url.clone(), limit: MAX_NAMES });
    }
    Ok(())
}
