//! One type on one stream: its subscription and its deliveries.

use std::sync::Arc;
use std::time::Instant;

use crate::delivery::Delivery;
use crate::error::StreamError;
use crate::request::{Interest, Reaction, Request};
use crate::resource::Version;
use crate::response::{Payload, Serial, Variant};
use crate::set::ResourceSet;
use crate::subscription::{Diff, Subscription};
use crate::type_url::TypeUrl;

/// The number of names that one subscription may hold.
pub const MAX_NAMES: usize = 100_000;
/// The length that a name may have, in bytes.
pub const MAX_NAME: usize = 1024;

/// What a stream knows about one type.
#[derive(Debug)]
pub(crate) struct TypeState {
    pub(crate) subscription: Subscription,
    pub(crate) delivery: Delivery,
    /// The first request of the type has no response yet. It gets one even if it is empty (XDS.md X6 and X27).
    answer_due: bool,
    /// The client waits for a resource: the next push does not wait for an ACK.
    immediate: bool,
}

/// Make before break: additions and changes are sent first, removals last (XDS.md X40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Make,
    Break,
}

/// What a push depends on besides subscription and resources.
pub(crate) struct PushContext {
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
    /// Resources that the client now waits for. They are sent again even if it has them.
    pub(crate) warming: Vec<(TypeUrl, Arc<str>)>,
}

impl TypeState {
    /// The first request of a type is answered whatever nonce or version it names (XDS.md X6 and X37). `set`: what the
    /// client may get now, if that is known.
    pub(crate) fn first(
        type_url: &TypeUrl,
        interest: Interest,
        set: Option<&Arc<ResourceSet>>,
    ) -> Result<Self, StreamError> {
        check_names(type_url, &interest)?;
        let mut subscription = Subscription::default();
        match interest {
            Interest::Names(names) => {
                subscription.replace(names, type_url.empty_means_all());
            }
            Interest::Change { subscribe, unsubscribe, initial_versions } => {
                subscription.begin(&subscribe, &unsubscribe, &initial_versions, set);
            }
        }
        check_size(type_url, &subscription)?;
        Ok(Self { subscription, delivery: Delivery::default(), answer_due: true, immediate: true })
    }

    /// A later request. `nonce`: none, not ours (`Some(None)`), or the number of a response.
    pub(crate) fn on_request(
        &mut self,
        type_url: &TypeUrl,
        nonce: Option<Option<Serial>>,
        request: Request,
    ) -> Result<Reaction, StreamError> {
        check_names(type_url, &request.interest)?;
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
            self.immediate = true;
        }
        // A NACK without a nonce rejects the latest response.
        let latest = self.delivery.sent.as_ref().map(|sent| sent.serial);
        let answered = nonce.flatten().or(latest.filter(|_| request.error.is_some()));
        Ok(match answered {
            Some(serial) => self.delivery.answer(serial, request.error, &mut self.subscription),
            None if nonce.is_some() => Reaction::Stale,
            None => Reaction::Spontaneous,
        })
    }

    /// Marks a resource to be sent again.
    pub(crate) fn repeat(&mut self, name: &Arc<str>) {
        if self.subscription.repeat(name) {
            self.immediate = true;
        }
    }

    /// What to send next of this type, if anything. If it must wait for an ACK, `wakeup` is set.
    pub(crate) fn next(
        &mut self,
        set: &Arc<ResourceSet>,
        context: &PushContext,
        wakeup: &mut Option<Instant>,
    ) -> Option<Push> {
        if self.subscription.is_up_to_date(set) && !self.answer_due {
            return None;
        }
        if let Some(until) = self.ack_deadline(context) {
            *wakeup = Some(wakeup.map_or(until, |other| other.min(until)));
            return None;
        }
        let diff = self.subscription.diff(set);
        let keep = context.phase == Phase::Make && set.type_url().leaves_last() && diff.has_removals();
        if keep && diff.changed.is_empty() {
            return None;
        }
        let push = self.push(set, diff, keep, context);
        if !keep {
            self.subscription.settle(set);
        }
        if push.is_none() {
            self.delivery.resolve(&self.subscription);
        }
        push
    }

    /// Turns a difference into a response. With `keep`, removals are left for the last phase.
    fn push(
        &mut self,
        set: &Arc<ResourceSet>,
        diff: Diff,
        keep: bool,
        context: &PushContext,
    ) -> Option<Push> {
        let Diff { mut changed, missing: mut removed, mut leaving, emptied } = diff;
        if !keep {
            changed.extend(emptied);
            removed.append(&mut leaving);
        }
        let sotw = context.variant == Variant::StateOfTheWorld;
        let complete = sotw && set.type_url().is_complete();
        let has_content = !changed.is_empty() || (!removed.is_empty() && (complete || !sotw));
        self.immediate = false;
        if !has_content && !self.answer_due {
            self.subscription.record_sent(context.serial, &changed, &removed);
            return None;
        }
        let listing = complete.then(|| self.subscription.listing(set, &leaving));
        self.subscription.record_sent(context.serial, &changed, &removed);
        self.answer_due = false;
        let warming = changed.iter().filter_map(|resource| resource.companion().cloned()).collect();
        let resources = listing.unwrap_or_else(|| Payload::new(changed, set));
        let version = self.subscription.version();
        self.delivery.send(context.serial, version, context.now);
        let removed = if sotw { Vec::new() } else { removed };
        Some(Push { resources, removed, version, warming })
    }

    /// When the wait for the ACK of the last response ends, if this push must wait for it; see
    /// [`Stream`](crate::Stream), "Independent types".
    fn ack_deadline(&self, context: &PushContext) -> Option<Instant> {
        let by_name = context.variant == Variant::StateOfTheWorld && !self.subscription.is_wildcard();
        (by_name && !self.immediate).then(|| self.delivery.ack_deadline(context.now)).flatten()
    }
}

fn check_size(type_url: &TypeUrl, subscription: &Subscription) -> Result<(), StreamError> {
    if subscription.names() > MAX_NAMES {
        return Err(StreamError::TooManyNames { type_url: type_url.clone(), limit: MAX_NAMES });
    }
    Ok(())
}

fn check_names(type_url: &TypeUrl, interest: &Interest) -> Result<(), StreamError> {
    match interest.longest_name() {
        0..=MAX_NAME => Ok(()),
        length => Err(StreamError::LongName { type_url: type_url.clone(), length, limit: MAX_NAME }),
    }
}
