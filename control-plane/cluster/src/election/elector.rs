//! The state machine of one elector. It has no clock and no network.
//!
//! ```text
//!             another one leads, or a request failed
//!            ┌──────────────────────────────────────┐
//!            ▼                                      │
//!  read ─► wait 2 s ─► read ─► free or run out ─► write ─► leads ─► renew every 5 s
//!            ▲                                                        │
//!            └───── 10 s without a successful renewal, or lost ◄──────┘
//! ```
//! Clocks of different machines are never compared: a Lease has run out when its record has not changed for its length
//! by our own clock, since we saw it first. Our own leadership counts from the moment before its renewal was sent.

use std::time::{Duration, Instant};

use super::lease::{Lease, Record};

/// Times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// How long a leader leads without a renewal that others see.
    pub(crate) lease: Duration,
    /// How long it believes so itself: less, so that there are never two.
    pub(crate) deadline: Duration,
    /// How often it renews.
    pub(crate) renew: Duration,
    /// How often others look, and failed requests are repeated.
    pub(crate) retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renew: Duration::from_secs(5),
            retry: Duration::from_secs(2),
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// Nothing before this.
    Wait(Instant),
    /// Read the Lease.
    Read,
    /// Create the Lease with this record.
    Create(Record),
    /// Write this record, if the Lease still is this one.
    Write(Lease, Record),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The Lease as it is now.
    Lease(Lease),
    /// There is none.
    Absent,
    /// Another one wrote it meanwhile.
    Conflict,
    /// Anything else.
    Failed,
}

/// An elector.
#[derive(Debug)]
pub(crate) struct Elector {
    identity: String,
    times: Times,
    /// The Lease as it was seen last.
    known: Known,
    /// Since when its record has been this one, by our clock.
    seen: Instant,
    /// Until when we lead.
    leads_until: Option<Instant>,
    /// Nothing is asked before this.
    next: Instant,
}

#[derive(Debug, PartialEq)]
enum Known {
    Nothing,
    Absent,
    Lease(Lease),
}

impl Elector {
    pub(crate) fn new(identity: String, times: Times, now: Instant) -> Self {
        Self { identity, times, known: Known::Nothing, seen: now, leads_until: None, next: now }
    }

    /// Until when we lead, if we do.
    pub(crate) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.leads_until.filter(|until| now < *until)
    }

    /// What to do at `now`; `wall` is the time of day as Leases have it.
    pub(crate) fn next(&self, now: Instant, wall: &str) -> Act {
        if now < self.next {
            return Act::Wait(self.next);
        }
        match &self.known {
            Known::Nothing => Act::Read,
            Known::Absent => Act::Create(self.record(&Record::default(), wall)),
            Known::Lease(lease) => {
                let record = lease.record();
                match self.may_take(&record, now) {
                    true => Act::Write(lease.clone(), self.record(&record, wall)),
                    false => Act::Read,
                }
            }
        }
    }

    /// Takes up the answer to what was asked at `asked`.
    pub(crate) fn answered(&mut self, act: &Act, answer: Answer, asked: Instant, now: Instant) {
        let wrote = matches!(act, Act::Create(_) | Act::Write(..));
        match answer {
            Answer::Lease(lease) => {
                let record = lease.record();
                let before =
                    if let Known::Lease(before) = &self.known { Some(before.record()) } else { None };
                if before.as_ref() != Some(&record) {
                    // Of what we wrote, others count from a moment after we asked.
                    self.seen = if wrote { asked } else { now };
                }
                self.known = Known::Lease(lease);
                let ours = record.holder == self.identity;
                if !ours {
                    self.leads_until = None;
                } else if wrote {
                    self.leads_until = Some(asked + self.times.deadline);
                    self.next = asked + self.times.renew;
                    return;
                }
                // What can be taken is taken at once.
                self.next = if self.may_take(&record, now) { now } else { now + self.times.retry };
            }
            Answer::Absent => {
                self.known = Known::Absent;
                self.leads_until = None;
                self.next = if wrote { now + self.times.retry } else { now };
            }
            Answer::Conflict => {
                self.known = Known::Nothing;
                self.next = now;
            }
            Answer::Failed => self.next = now + self.times.retry,
        }
    }

    /// How the Lease is given up, if we have it: what to write. We do not lead from now on.
    pub(crate) fn release(&mut self, wall: &str) -> Option<(Lease, Record)> {
        self.leads_until = None;
        let Known::Lease(lease) = &self.known else { return None };
        let record = lease.record();
        (record.holder == self.identity).then(|| {
            let free = Record { holder: String::new(), seconds: 1, renewed: wall.to_owned(), ..record };
            (lease.clone(), free)
        })
    }

    /// Who leads, as far as is known.
    pub(crate) fn holder(&self) -> Option<String> {
        match &self.known {
            Known::Lease(lease) => Some(lease.record().holder).filter(|holder| !holder.is_empty()),
            _ => None,
        }
    }

    /// Whether the Lease is ours, free, or has run out.
    fn may_take(&self, record: &Record, now: Instant) -> bool {
        let length = if record.seconds == 0 { self.times.lease } else { Duration::from_secs(record.seconds) };
        record.holder.is_empty() || record.holder == self.identity || now >= self.seen + length
    }

    /// The record with which we lead after `before`.
    fn record(&self, before: &Record, wall: &str) -> Record {
        let ours = before.holder == self.identity;
        let first = before.acquired.is_empty() && before.holder.is_empty();
        Record {
            holder: self.identity.clone(),
            seconds: self.times.lease.as_secs(),
            acquired: if ours { before.acquired.clone() } else { wall.to_owned() },
            renewed: wall.to_owned(),
            transitions: if ours || first { before.transitions } else { before.transitions + 1 },
        }
    }
}

#[cfg(test)]
mod tests;
