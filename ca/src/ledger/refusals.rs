//! Counts repeated refusals, so that unauthenticated peers cannot fill the disk with records.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::record::{Refused, Requester, Wanted};

/// Refusals of one window of time. The first of each source is written as it is; those after it are counted, and
/// the count is written when the window ends. Sources beyond the bound are counted together.
#[derive(Debug)]
pub struct Refusals {
    window: Duration,
    max_sources: usize,
    /// When the window ends, if one is open.
    ends: Option<OffsetDateTime>,
    tallies: BTreeMap<Source, Tally>,
}

/// Who was refused what with which code; an empty name stands for all callers beyond the limit of names.
type Source = (String, Wanted, String);

#[derive(Debug)]
struct Tally {
    /// When the first of those not yet written was.
    since: OffsetDateTime,
    unwritten: u64,
    last: Refused,
}

impl Refusals {
    /// Names at most `max_sources` sources in each `window`.
    pub fn new(window: Duration, max_sources: usize) -> Self {
        Self { window, max_sources, ends: None, tallies: BTreeMap::new() }
    }

    /// Takes in a refusal; returns what is to be written at once.
    pub fn note(&mut self, refused: Refused, now: OffsetDateTime) -> Option<Refused> {
        self.ends.get_or_insert(now + self.window);
        let key = (source(&refused.requester), refused.wanted, refused.code.clone());
        let named = self.tallies.len() < self.max_sources || self.tallies.contains_key(&key);
        let key = if named { key } else { (String::new(), key.1, key.2) };
        match self.tallies.get_mut(&key) {
            Some(tally) => {
                if tally.unwritten == 0 {
                    tally.since = now;
                }
                tally.unwritten += refused.count;
                if named {
                    tally.last = refused;
                }
                None
            }
            None if named => {
                self.tallies.insert(key, Tally { since: now, unwritten: 0, last: refused.clone() });
                Some(refused)
            }
            None => {
                let last = Refused::new(refused.code, "further callers were refused", Requester::default());
                let last = last.of(refused.wanted);
                self.tallies.insert(key, Tally { since: now, unwritten: refused.count, last });
                None
            }
        }
    }

    /// When there is something to be written next.
    pub fn due(&self) -> Option<OffsetDateTime> {
        self.ends
    }

    /// What is to be written at `now`: the counts of a window that has ended.
    pub fn take_due(&mut self, now: OffsetDateTime) -> Vec<Refused> {
        if self.ends.is_some_and(|end| end <= now) { self.take() } else { Vec::new() }
    }

    /// Ends the window: all counts.
    pub fn take(&mut self) -> Vec<Refused> {
        self.ends = None;
        let counted = std::mem::take(&mut self.tallies).into_values().filter(|tally| tally.unwritten > 0);
        counted.map(|t| Refused { count: t.unwritten, since: Some(t.since), ..t.last }).collect()
    }
}

/// The name of the refused caller.
fn source(requester: &Requester) -> String {
    match (&requester.caller, requester.peer) {
        (Some(caller), _) => caller.to_string(),
        (None, Some(peer)) => peer.to_string(),
        (None, None) => "-".to_owned(),
    }
}
