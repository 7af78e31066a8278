//! The state machine of one list and watch. It has no clock and no network: tests use simulated time.
//!
//! ```text
//!            ┌────────── back-off ◄───────── failure ──────────┐
//!            ▼                                                 │
//! streaming list ─ initial events end ─► watch ─ ended ─► watch again, or probe first if it was silent
//!   or pages ──────── last page ───────►   │
//!      ▲                                   │ version expired, history went back, or three failures
//!      └───────────────────────────────────┘ from one version
//! ```
//! Rules:
//! - Known objects stay until a list is complete. An incomplete list has no effect.
//! - Every phase has a deadline. A watch that is open for longer than its timeout is dead.
//! - The back-off grows until a list is complete or the watch advances. It also counts lists whose watches expired at
//!   once.
//! - A watch without any event does not prove that nothing happened: after a restore of etcd, the API has lower versions
//!   and sends nothing to a watch from a higher one. A list with limit 1 compares the versions.

use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, Instant},
};

use super::failure::{Cause, Failure};
use crate::{decode::Key, status::Health};

/// Failures from the same version before a fresh list.
const SAME_VERSION: u32 = 3;
/// A watch without any event that ends sooner than this has failed.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// Deadlines and pauses.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Until the head of an answer.
    pub answer: Duration,
    /// Until the end of a page.
    pub page: Duration,
    /// The longest silence within a streaming list.
    pub silence: Duration,
    /// The longest timeout of a watch; the shortest is four fifths of it.
    pub watch: Duration,
    /// The time after its timeout in which a watch must end.
    pub grace: Duration,
    /// The first pause after a failure.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            page: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            watch: Duration::from_secs(50),
            grace: Duration::from_secs(5),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// A request to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// A watch that begins with all objects.
    StreamingList { timeout: Duration },
    /// A page of a list: the first one, or the one with this continue token.
    Page { next: Option<String> },
    /// Changes after this version.
    Watch { version: String, timeout: Duration },
    /// A list with limit 1, for the resource version of the list.
    Probe,
}

/// An input of the state machine. `T` is a decoded object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<T> {
    /// The deadline passed.
    Timer,
    /// The head of a successful answer to a watch.
    Opened,
    /// A whole page.
    Page { objects: Vec<(Key, T)>, version: String, next: Option<String> },
    /// An object is new or different.
    Changed { added: bool, key: Key, object: T, version: String },
    /// An object is gone.
    Deleted { key: Key, version: String },
    /// Nothing happened up to this version.
    Bookmark { version: String, initial_events_end: bool },
    /// The server ended the stream in good order.
    Ended,
    /// The request failed.
    Failed(Failure),
}

/// A change of the known objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<T> {
    /// These are all objects. Any other object does not exist any more.
    Resync(Vec<(Key, T)>),
    /// An object is new or different.
    Upsert(Key, T),
    /// An object is gone.
    Delete(Key),
}

/// What to do with the connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Command {
    /// Continue to read.
    #[default]
    Keep,
    /// Close it. There is no request until the deadline.
    Close,
    /// Close it and send this request.
    Send(Request),
}

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step<T> {
    pub(crate) delta: Option<Delta<T>>,
    pub(crate) command: Command,
    /// For status and log.
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug)]
enum Phase<T> {
    Waiting { until: Instant, next: Next },
    Initial { pending: BTreeMap<Key, T>, sent: Instant, span: Duration, deadline: Instant, opened: bool },
    Paging { pending: BTreeMap<Key, T>, deadline: Instant },
    Watching(Watching),
    Probing { version: String, deadline: Instant },
}

#[derive(Debug)]
struct Watching {
    version: String,
    sent: Instant,
    span: Duration,
    opened: bool,
    /// There was no event so far.
    silent: bool,
}

#[derive(Debug)]
enum Next {
    List,
    Watch(String),
}

/// Whether to stream lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    Try,
    /// The next list uses pages.
    Skip,
    /// The API refused to stream.
    Never,
}

/// One list and watch.
#[derive(Debug)]
pub(crate) struct Machine<T> {
    timing: Timing,
    jitter: Jitter,
    phase: Phase<T>,
    streaming: Streaming,
    /// Failures since the last success.
    failures: u32,
    /// Failures from the current version.
    same_version: u32,
    /// Fresh lists since a watch advanced.
    relists: u32,
    health: Health,
}

impl<T> Machine<T> {
    /// Returns a machine and its first step. `seed` is that of the jitter.
    pub(crate) fn start(timing: Timing, seed: u64, now: Instant) -> (Self, Step<T>) {
        let phase = Phase::Waiting { until: now, next: Next::List };
        let mut machine = Self {
            timing,
            jitter: Jitter::new(seed),
            phase,
            streaming: Streaming::Try,
            failures: 0,
            same_version: 0,
            relists: 0,
            health: Health::default(),
        };
        let step = machine.list(now);
        (machine, step)
    }

    /// The current state.
    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// When [`Event::Timer`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Waiting { until: deadline, .. }
            | Phase::Initial { deadline, .. }
            | Phase::Paging { deadline, .. }
            | Phase::Probing { deadline, .. } => *deadline,
            Phase::Watching(Watching { sent, span, opened: true, .. }) => *sent + *span + self.timing.grace,
            Phase::Watching(Watching { sent, .. }) => *sent + self.timing.answer,
        }
    }

    /// Processes an event.
    pub(crate) fn step(&mut self, event: Event<T>, now: Instant) -> Step<T> {
        match event {
            Event::Timer => self.timer(now),
            Event::Opened => self.opened(now),
            Event::Page { objects, version, next } => self.page(objects, version, next, now),
            Event::Changed { added, key, object, version } => {
                self.health.objects += usize::from(added && !self.health.listing);
                self.change(Delta::Upsert(key, object), &version, now)
            }
            Event::Deleted { key, version } => {
                let gone = usize::from(!self.health.listing);
                self.health.objects = self.health.objects.saturating_sub(gone);
                self.change(Delta::Delete(key), &version, now)
            }
            Event::Bookmark { version, initial_events_end } => {
                self.bookmark(version, initial_events_end, now)
            }
            Event::Ended => self.ended(now),
            Event::Failed(failure) => self.fail(failure, now),
        }
    }

    fn timer(&mut self, now: Instant) -> Step<T> {
        if now < self.deadline() {
            return Step::nothing();
        }
        let what = match &mut self.phase {
            Phase::Waiting { next, .. } => {
                return match mem::replace(next, Next::List) {
                    Next::List => self.list(now),
                    Next::Watch(version) => self.watch(version, now),
                };
            }
            Phase::Initial { .. } => "the streaming list did not come to its end",
            Phase::Paging { .. } => "no answer to a list",
            Phase::Watching(Watching { opened: true, .. }) => "the watch is silent beyond its end",
            Phase::Watching(_) => "no answer to a watch",
            Phase::Probing { .. } => "no answer to a list of one object",
        };
        self.fail(Failure::new(Cause::TimedOut, what), now)
    }

    fn opened(&mut self, now: Instant) -> Step<T> {
        match &mut self.phase {
            Phase::Initial { deadline, sent, span, opened, .. } => {
                *opened = true;
                *deadline = (now + self.timing.silence).min(*sent + *span);
            }
            Phase::Watching(watching) => {
                watching.opened = true;
                self.health.live = true;
            }
            _ => return Step::nothing(),
        }
        self.health.watches += 1;
        Step::nothing()
    }

    /// A changed object: part of a streaming list, or an update.
    fn change(&mut self, delta: Delta<T>, version: &str, now: Instant) -> Step<T> {
        match &mut self.phase {
            Phase::Initial { pending, deadline, sent, span, .. } => {
                *deadline = (now + self.timing.silence).min(*sent + *span);
                match delta {
                    Delta::Upsert(key, object) => drop(pending.insert(key, object)),
                    Delta::Delete(key) => drop(pending.remove(&key)),
                    Delta::Resync(_) => {}
                }
                Step::nothing()
            }
            Phase::Watching(_) => match self.advance(version, now) {
                Some(step) => step,
                None => Step { delta: Some(delta), ..Step::nothing() },
            },
            _ => Step::nothing(),
        }
    }

    fn bookmark(&mut self, version: String, initial_events_end: bool, now: Instant) -> Step<T> {
        self.health.bookmarks += 1;
        match &mut self.phase {
            Phase::Initial { pending, sent, span, .. } if initial_events_end => {
                let (pending, sent, span) = (mem::take(pending), *sent, *span);
                let step = self.complete(pending);
                self.health.live = true;
                self.phase = Phase::Watching(Watching { version, sent, span, opened: true, silent: false });
                step
            }
            Phase::Watching(_) => self.advance(&version, now).unwrap_or(Step::nothing()),
            _ => Step::nothing(),
        }
    }

    /// Sets the current version. Returns a step if `version` is lower than the current one.
    fn advance(&mut self, version: &str, now: Instant) -> Option<Step<T>> {
        let Phase::Watching(watching) = &mut self.phase else { return None };
        if is_older(version, &watching.version) {
            return Some(self.history_went_back(version, now));
        }
        watching.silent = false;
        if !version.is_empty() && watching.version != version {
            version.clone_into(&mut watching.version);
            (self.failures, self.same_version, self.relists) = (0, 0, 0);
        }
        None
    }

    fn history_went_back(&mut self, version: &str, now: Instant) -> Step<T> {
        let message = format!("the API's resource version went back to {version}");
        self.fail(Failure::new(Cause::Expired, message), now)
    }

    fn page(
        &mut self,
        objects: Vec<(Key, T)>,
        version: String,
        next: Option<String>,
        now: Instant,
    ) -> Step<T> {
        match &mut self.phase {
            Phase::Paging { pending, deadline } => {
                pending.extend(objects);
                if next.is_some() {
                    *deadline = now + self.timing.page;
                    return Step { command: Command::Send(Request::Page { next }), ..Step::nothing() };
                }
                let pending = mem::take(pending);
                let delta = self.complete(pending).delta;
                Step { delta, ..self.watch(version, now) }
            }
            Phase::Probing { version: known, .. } => {
                let known = mem::take(known);
                if is_older(&version, &known) {
                    return self.history_went_back(&version, now);
                }
                self.watch(known, now)
            }
            _ => Step::nothing(),
        }
    }

    /// A list is complete: these are all objects.
    fn complete(&mut self, objects: BTreeMap<Key, T>) -> Step<T> {
        (self.failures, self.same_version) = (0, 0);
        if self.streaming == Streaming::Skip {
            self.streaming = Streaming::Try;
        }
        self.health = Health {
            synced: true,
            listing: false,
            objects: objects.len(),
            lists: self.health.lists + 1,
            ..self.health
        };
        Step { delta: Some(Delta::Resync(objects.into_iter().collect())), ..Step::nothing() }
    }

    fn ended(&mut self, now: Instant) -> Step<T> {
        let Phase::Watching(watching) = &mut self.phase else {
            return self.fail(Failure::new(Cause::Unreachable, "the list ended before it was complete"), now);
        };
        if watching.silent && now < watching.sent + SHORTEST_WATCH {
            return self.fail(Failure::new(Cause::Unreachable, "the watch ended at once"), now);
        }
        let (version, silent) = (mem::take(&mut watching.version), watching.silent);
        (self.failures, self.same_version, self.relists) = (0, 0, 0);
        if !silent {
            return self.watch(version, now);
        }
        self.phase = Phase::Probing { version, deadline: now + self.timing.answer };
        Step { command: Command::Send(Request::Probe), ..Step::nothing() }
    }

    /// A request failed. Known objects stay, objects of an incomplete list are dropped.
    fn fail(&mut self, failure: Failure, now: Instant) -> Step<T> {
        let next = match &mut self.phase {
            Phase::Waiting { .. } => return Step::nothing(),
            Phase::Initial { .. } if failure.cause == Cause::NoStreaming => {
                self.streaming = Streaming::Never;
                return self.list(now);
            }
            Phase::Initial { opened, .. } => {
                let of_streaming = match failure.cause {
                    Cause::Unauthorized | Cause::Forbidden | Cause::NotFound => false,
                    Cause::Unreachable => *opened,
                    _ => true,
                };
                if self.streaming == Streaming::Try && of_streaming {
                    self.streaming = Streaming::Skip;
                }
                Next::List
            }
            Phase::Paging { .. } => Next::List,
            Phase::Watching(Watching { version, .. }) | Phase::Probing { version, .. } => {
                self.same_version += 1;
                if failure.cause == Cause::Expired || self.same_version >= SAME_VERSION {
                    self.relists += 1;
                    Next::List
                } else {
                    Next::Watch(mem::take(version))
                }
            }
        };
        self.health.live = false;
        self.health.listing = false;
        let pause = self.pause().max(failure.retry_after.unwrap_or_default());
        self.phase = Phase::Waiting { until: now + pause, next };
        Step { delta: None, command: Command::Close, failure: Some(failure) }
    }

    /// The next pause: exponential, with jitter of up to half of it.
    fn pause(&mut self) -> Duration {
        let doublings = (self.failures + self.relists.saturating_sub(1)).min(16);
        self.failures += 1;
        let full = (self.timing.first_pause * 2_u32.pow(doublings)).min(self.timing.longest_pause);
        full.mul_f64(0.5 + self.jitter.next() / 2.0)
    }

    fn list(&mut self, now: Instant) -> Step<T> {
        self.health.listing = true;
        let request = if self.streaming == Streaming::Try {
            let timeout = self.span();
            let (sent, deadline) = (now, now + self.timing.answer);
            self.phase =
                Phase::Initial { pending: BTreeMap::new(), sent, span: timeout, deadline, opened: false };
            Request::StreamingList { timeout }
        } else {
            self.phase = Phase::Paging { pending: BTreeMap::new(), deadline: now + self.timing.page };
            Request::Page { next: None }
        };
        Step { command: Command::Send(request), ..Step::nothing() }
    }

    fn watch(&mut self, version: String, now: Instant) -> Step<T> {
        let timeout = self.span();
        let request = Request::Watch { version: version.clone(), timeout };
        let watching = Watching { version, sent: now, span: timeout, opened: false, silent: true };
        self.phase = Phase::Watching(watching);
        Step { command: Command::Send(request), ..Step::nothing() }
    }

    /// The timeout of the next watch, in whole seconds. Jitter keeps watches of all kinds from ending together.
    fn span(&mut self) -> Duration {
        let span = self.timing.watch.mul_f64(0.8 + self.jitter.next() / 5.0);
        Duration::from_secs(span.as_secs().max(1))
    }
}

impl<T> Step<T> {
    fn nothing() -> Self {
        Self { delta: None, command: Command::Keep, failure: None }
    }
}

/// Compares resource versions, which are growing numbers. A version that is no number is never older.
fn is_older(version: &str, than: &str) -> bool {
    let number = |text: &str| text.parse::<u128>().ok();
    number(version).zip(number(than)).is_some_and(|(version, than)| version < than)
}

/// A xorshift generator, for jitter only.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Spreads the bits of the seed, which may be a small number. The state must not be 0.
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number from 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let fraction = u32::try_from(self.0 >> 32).unwrap_or_default();
        f64::from(fraction) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests;
