//! Rate limit for repeated warnings: each is logged once a minute.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time between two equal warnings.
const INTERVAL: Duration = Duration::from_secs(60);

/// The time of the last warning, by key.
#[derive(Debug, Default)]
pub struct Repeated(Mutex<BTreeMap<String, Instant>>);

impl Repeated {
    /// Whether the warning `what` is due; if so, records it as logged.
    pub fn is_due(&self, what: &str, now: Instant) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = given.get(what).is_none_or(|last| now.saturating_duration_since(*last) >= INTERVAL);
        if due {
            given.insert(what.to_owned(), now);
        }
        due
    }

    /// Removes the warning `what`, whose cause is over; returns whether it had been logged.
    pub fn is_over(&self, what: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_once_a_minute_until_it_is_over() {
        let (log, now) = (Repeated::default(), Instant::now());
        let due = |what, seconds| log.is_due(what, now + Duration::from_secs(seconds));
        assert_eq!([due("a", 0), due("a", 59), due("b", 59), due("a", 60)], [true, false, true, true]);
        assert!(log.is_over("a") && !log.is_over("a"));
        assert!(due("a", 61));
    }
}
