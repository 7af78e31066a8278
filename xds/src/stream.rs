//! One discovery stream: its subscriptions, and the next response.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::delivery::SyncState;
use crate::error::StreamError;
use crate::held::AcceptedResource;
use crate::request::{Interest, Reaction, Request};
use crate::resource::{EncodedResource, Version};
use crate::response::{Response, Serial, Variant};
use crate::type_state::{Phase, PushContext, TypeState};
use crate::type_url::TypeUrl;
use crate::view::View;

/// The number of types that one stream may name, unknown ones included.
pub const MAX_TYPES: usize = 64;
/// About how many bytes the names of one stream may take, those of all its types together.
pub const MAX_HELD: usize = 32 * 1024 * 1024;

/// The state of one discovery stream, without I/O.
///
/// Feed it with [`on_request`](Self::on_request), then take [`next_response`](Self::next_response) until it is
/// `None`, each time with the newest view. Nothing is queued inside: a response is the difference between what the
/// client holds and the view at hand, so a slow client skips what it missed and costs no memory (XDS.md X46).
///
/// # Order
/// One view is sent as: clusters, endpoints, listeners, routes, secrets, others; and at last what *leaves* clusters
/// and endpoints, when nothing refers to it any more (XDS.md X40). In state-of-the-world, a resource
/// that is absent from a response is deleted. A changed cluster response therefore still lists the clusters that leave,
/// and a second one without them ends the push. If a newer view comes in between, the push starts again with that
/// view: everything that was sent before is still there, so every reference stays valid.
///
/// # Independent types
/// Clients hold their ACK of clusters back while these warm (ENVOY.md E13), so no type waits for
/// the ACK of another. Only pushes to a state-of-the-world subscription *by name* wait, for a limited time, for the
/// ACK of the last one: its requests count only with the latest nonce (XDS.md X13). Without the wait, every change
/// of the names could be stale during a quick sequence of pushes.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    nonces: Nonces,
    types: BTreeMap<TypeUrl, TypeState>,
    wakeup: Option<Instant>,
}

/// Nonces of one stream: prefix and serial number.
#[derive(Debug)]
struct Nonces {
    prefix: String,
    last: Serial,
}

impl Nonces {
    fn text(&self, serial: Serial) -> String {
        format!("{}-{serial}", self.prefix)
    }

    /// The serial number of a nonce of this stream.
    fn read(&self, nonce: &str) -> Option<Serial> {
        let serial = nonce.strip_prefix(&self.prefix)?.strip_prefix('-')?.parse().ok()?;
        (serial <= self.last).then_some(serial)
    }
}

impl Stream {
    /// A new stream. `nonce_prefix` should differ from stream to stream, so that nonces of an earlier stream
    /// are recognized as foreign.
    pub fn new(variant: Variant, nonce_prefix: impl Into<String>) -> Self {
        let nonces = Nonces { prefix: nonce_prefix.into(), last: 0 };
        Self { variant, nonces, types: BTreeMap::new(), wakeup: None }
    }

    /// Applies a request. Call [`next_response`](Self::next_response) afterwards.
    ///
    /// # Errors
    /// The stream must be ended with the error; see [`StreamError`].
    pub fn on_request(&mut self, request: Request) -> Result<Reaction, StreamError> {
        self.on_request_with(request, &View::default())
    }

    /// The same with the newest view at hand: a client that comes back with all of it costs no comparison name by name.
    ///
    /// # Errors
    /// Those of [`on_request`](Self::on_request).
    pub fn on_request_with(&mut self, request: Request, view: &View) -> Result<Reaction, StreamError> {
        let type_url = TypeUrl::parse(&request.type_url)?;
        let nonce = (!request.nonce.is_empty()).then(|| self.nonces.read(&request.nonce));
        let reaction = match self.types.get_mut(&type_url) {
            Some(state) => state.on_request(&type_url, nonce, request)?,
            None => self.begin(type_url, request.interest, view)?,
        };
        if self.bytes() > MAX_HELD {
            return Err(StreamError::TooMuchHeld { limit: MAX_HELD });
        }
        Ok(reaction)
    }

    fn begin(&mut self, type_url: TypeUrl, interest: Interest, view: &View) -> Result<Reaction, StreamError> {
        if self.types.len() >= MAX_TYPES {
            return Err(StreamError::TooManyTypes { limit: MAX_TYPES });
        }
        let state = TypeState::first(&type_url, interest, view.get(&type_url))?;
        self.types.insert(type_url, state);
        Ok(Reaction::First)
    }

    /// About how many bytes the names of the stream take, without what it shares with others.
    pub fn bytes(&self) -> usize {
        self.types.values().map(|state| state.subscription.bytes()).sum()
    }

    /// The next response that brings the client up to date with `view`; `None` if it is.
    ///
    /// The response counts as sent. `now` is used for [`next_wakeup`](Self::next_wakeup) only.
    pub fn next_response(&mut self, view: &View, now: Instant) -> Option<Response> {
        self.wakeup = None;
        for phase in [Phase::Make, Phase::Break] {
            for (type_url, state) in &mut self.types {
                let Some(set) = view.get(type_url) else { continue };
                let context = PushContext { variant: self.variant, phase, now, serial: self.nonces.last + 1 };
                let Some(push) = state.next(set, &context, &mut self.wakeup) else { continue };
                self.nonces.last = context.serial;
                let response = Response {
                    variant: self.variant,
                    type_url: type_url.clone(),
                    nonce: self.nonces.text(context.serial),
                    version: push.version,
                    resources: push.resources,
                    removed: push.removed,
                };
                for (companion, name) in push.warming {
                    self.repeat(&companion, &name);
                }
                return Some(response);
            }
        }
        None
    }

    /// When [`next_response`](Self::next_response), having returned `None`, may return something even if neither a
    /// request nor a view comes in.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.wakeup
    }

    /// Sends a subscribed resource again without a request: a client that got a new or changed cluster waits for its
    /// endpoints even if it has them (XDS.md X41). Delta clients do not request them. State-of-the-world clients
    /// repeat their last request. If it arrives before the endpoints are sent, they are the response to it; if after,
    /// its nonce is stale. In both cases they are sent once.
    fn repeat(&mut self, type_url: &TypeUrl, name: &Arc<str>) {
        if let Some(state) = self.types.get_mut(type_url) {
            state.repeat(name);
        }
    }

    /// The variant of the protocol on this stream.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The state of each requested type, in push order.
    pub fn status(&self) -> Vec<SyncStatus> {
        self.types.iter().map(|(type_url, state)| self.type_status(type_url, state)).collect()
    }

    fn type_status(&self, type_url: &TypeUrl, state: &TypeState) -> SyncStatus {
        let delivery = &state.delivery;
        SyncStatus {
            type_url: type_url.clone(),
            state: delivery.state(),
            since: delivery.since(),
            wildcard: state.subscription.is_wildcard(),
            names: state.subscription.names(),
            held: state.subscription.held().count(),
            sent_nonce: delivery.sent.as_ref().map(|sent| self.nonces.text(sent.serial)),
            sent_version: delivery.sent.as_ref().map(|sent| sent.version),
            acked_nonce: delivery.acked.map(|serial| self.nonces.text(serial)),
            error: delivery.rejection.as_ref().map(|rejection| rejection.message.clone()),
            rejected: state.subscription.refused().map(|(name, _)| Arc::clone(name)).collect(),
            rejects: delivery.rejects,
        }
    }

    /// The resources of a type that the client has accepted, sorted by name. What it was sent since then and has not
    /// answered yet counts as accepted, what it refused does not.
    pub fn accepted(&self, type_url: &TypeUrl) -> Vec<AcceptedResource> {
        let Some(state) = self.types.get(type_url) else { return Vec::new() };
        let mut accepted: Vec<_> = state.subscription.held_resources().collect();
        accepted.sort_by(|a, b| a.name.cmp(&b.name));
        accepted
    }

    /// The resources of a type that the client has subscribed to, as `view` has them, sorted by name. A subscribed name
    /// that is answered although it does not exist is among them.
    pub fn subscribed(&self, view: &View, type_url: &TypeUrl) -> Vec<Arc<EncodedResource>> {
        let (Some(state), Some(set)) = (self.types.get(type_url), view.get(type_url)) else {
            return Vec::new();
        };
        let subscription = &state.subscription;
        let there = set.iter().filter(|resource| subscription.wants(resource.name())).cloned();
        let absent = subscription.subscribed_names().filter(|name| set.get(name).is_none());
        let mut found: Vec<_> = there.chain(absent.filter_map(|name| set.absent(name))).collect();
        found.sort_by(|a, b| a.name().cmp(b.name()));
        found
    }

    /// Name and version of the resources of a type that the client holds, in no order.
    pub fn held(&self, type_url: &TypeUrl) -> impl Iterator<Item = (Arc<str>, Version)> {
        self.types.get(type_url).into_iter().flat_map(|state| state.subscription.held())
    }
}

/// The state of one type on one stream.
#[derive(Clone, Debug)]
pub struct SyncStatus {
    /// The type.
    pub type_url: TypeUrl,
    /// The state.
    pub state: SyncState,
    /// When the response was sent that led to the state; `None` if none was sent.
    pub since: Option<Instant>,
    /// The wildcard is subscribed.
    pub wildcard: bool,
    /// The number of subscribed names.
    pub names: usize,
    /// The number of resources that the client holds.
    pub held: usize,
    /// The nonce of the latest response.
    pub sent_nonce: Option<String>,
    /// The version of everything held after the latest response.
    pub sent_version: Option<Version>,
    /// The nonce of the latest accepted response.
    pub acked_nonce: Option<String>,
    /// The error of the NACK that is not resolved yet, as the client sent it.
    pub error: Option<String>,
    /// The resources that are held back because the client refused them.
    pub rejected: Vec<Arc<str>>,
    /// How many responses were rejected.
    pub rejects: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_state::{MAX_NAME, MAX_NAMES};
    use crate::type_url::EmptyTypeUrl;

    fn ask(stream: &mut Stream, type_url: &str, names: usize) -> Result<Reaction, StreamError> {
        let names = (0..names).map(|n| n.to_string()).collect();
        let interest = Interest::Names(names);
        stream.on_request(Request { type_url: type_url.to_owned(), interest, ..Request::default() })
    }

    #[test]
    fn x4_an_empty_type_url_is_refused() {
        let mut stream = Stream::new(Variant::Delta, "s");
        assert_eq!(ask(&mut stream, "", 0), Err(StreamError::EmptyTypeUrl(EmptyTypeUrl)));
    }

    #[test]
    fn types_and_names_are_bounded() {
        let mut stream = Stream::new(Variant::StateOfTheWorld, "s");
        for n in 0..MAX_TYPES {
            assert_eq!(ask(&mut stream, &format!("test/{n}"), 1), Ok(Reaction::First));
        }
        assert!(matches!(ask(&mut stream, "test/more", 1), Err(StreamError::TooManyTypes { .. })));
        assert!(ask(&mut stream, "test/1", MAX_NAMES).is_ok());
        assert!(matches!(ask(&mut stream, "test/1", MAX_NAMES + 1), Err(StreamError::TooManyNames { .. })));
    }

    #[test]
    fn names_are_bounded_in_length_and_in_all() {
        let delta = |names: &[String], claims: &[String]| Interest::Change {
            subscribe: names.to_vec(),
            unsubscribe: Vec::new(),
            initial_versions: claims.iter().map(|name| (name.clone(), "1".to_owned())).collect(),
        };
        let ask = |stream: &mut Stream, type_url: &str, interest| {
            stream.on_request(Request { type_url: type_url.to_owned(), interest, ..Request::default() })
        };
        let long = ["n".repeat(MAX_NAME + 1)];
        for interest in [Interest::Names(long.to_vec()), delta(&long, &[]), delta(&[], &long)] {
            let mut stream = Stream::new(Variant::Delta, "s");
            let refused = ask(&mut stream, "test/a", interest);
            assert!(matches!(refused, Err(StreamError::LongName { length: 1025, .. })), "{refused:?}");
        }
        let many = |from: usize| (from..from + 10_000).map(|n| format!("{n:0>1000}")).collect::<Vec<_>>();
        let mut stream = Stream::new(Variant::Delta, "s");
        let asked = (0..10).map(|n| ask(&mut stream, &format!("test/{n}"), delta(&many(n * 10_000), &[])));
        let refused = asked.filter_map(Result::err).next();
        assert!(matches!(refused, Some(StreamError::TooMuchHeld { .. })), "{refused:?}");
        // What is dropped counts no longer.
        let mut stream = Stream::new(Variant::Delta, "s");
        for round in 0..10 {
            let (new, old) = (many(round * 10_000), many(round.saturating_sub(1) * 10_000));
            let interest =
                Interest::Change { subscribe: new, unsubscribe: old, initial_versions: BTreeMap::new() };
            let interest = if round == 0 { delta(&many(0), &[]) } else { interest };
            ask(&mut stream, "test/a", interest).unwrap();
        }
        assert!(stream.bytes() > 10_000_000 && stream.bytes() < MAX_HELD, "{}", stream.bytes());
    }

    #[test]
    fn only_own_nonces_are_understood() {
        let nonces = Nonces { prefix: "a.1".to_owned(), last: 7 };
        assert_eq!(nonces.read(&nonces.text(7)), Some(7));
        for foreign in ["", "7", "a.1-8", "a.1-", "a.1--7", "a.1-7x", "a.17", "b.1-7"] {
            assert_eq!(nonces.read(foreign), None, "{foreign}");
        }
    }
}
