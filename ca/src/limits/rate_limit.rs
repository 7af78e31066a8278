//! How often a caller may send requests.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// A rate of requests and the burst that is allowed after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second.
    pub per_second: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// The time that one request takes up.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.get()
    }

    /// How far ahead of the rate a key may be.
    fn leeway(self) -> Duration {
        self.interval() * (self.burst.get() - 1)
    }
}

/// A bucket of tokens for each of many. For each it keeps one moment: when it will be back to its steady rate. Whoever
/// is, needs no entry. When there is no room for another, all newcomers share a bucket, so memory is bounded.
#[derive(Debug)]
pub struct Admission<K> {
    rate: Rate,
    max_keys: usize,
    /// When each is back to its steady rate; `None` stands for those without an entry of their own.
    even_at: BTreeMap<Option<K>, Instant>,
    /// When entries that say nothing any more were last removed.
    swept: Option<Instant>,
}

impl<K: Ord> Admission<K> {
    /// Allows each key requests at `rate`; at most `max_keys` keys have entries of their own.
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        Self { rate, max_keys, even_at: BTreeMap::new(), swept: None }
    }

    /// Whether a request of `key` is allowed at `now`. It is not counted.
    ///
    /// # Errors
    /// How long to wait until the next request.
    pub fn check(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.ahead(key, now).map(|_| ())
    }

    /// Counts a request of `key` at `now` if it is allowed.
    ///
    /// # Errors
    /// How long to wait until the next request.
    pub fn admit(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let (key, even_at) = self.ahead(key, now)?;
        self.even_at.insert(key, even_at + self.rate.interval());
        Ok(())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.even_at.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.even_at.is_empty()
    }

    /// The entry that counts for `key`, and from when on its next request counts.
    fn ahead(&mut self, key: K, now: Instant) -> Result<(Option<K>, Instant), Duration> {
        let key = Some(key);
        let key = if self.even_at.contains_key(&key) || self.has_room(now) { key } else { None };
        let even_at = self.even_at.get(&key).copied().unwrap_or(now).max(now);
        match (even_at - now).checked_sub(self.rate.leeway()) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok((key, even_at)),
        }
    }

    /// Whether there is room for another. Going through the entries is done at most once in the time of one request.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.even_at.len() >= self.max_keys
            && self.swept.is_none_or(|last| now - last >= self.rate.interval())
        {
            self.even_at.retain(|_, even_at| *even_at > now);
            self.swept = Some(now);
        }
        self.even_at.len() < self.max_keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    /// A moment to count from.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_then_the_steady_rate() {
        let (mut admission, start) = (Admission::new(rate(10, 5), 100), start());
        let granted = (0..10_000).filter(|_| admission.admit("a", start).is_ok()).count();
        assert_eq!(granted, 5, "at one moment");
        let wait = admission.admit("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(admission.admit("b", start).is_ok(), "others are not concerned");
        assert!(admission.admit("a", start + wait).is_ok(), "who waits as told is admitted");
        let second = |n: u64| start + Duration::from_millis(100 * n);
        let granted = (1..=100).filter(|n| admission.admit("a", second(*n)).is_ok()).count();
        assert!((98..=100).contains(&granted), "{granted} of 100 at the steady rate");
        let pause = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| admission.admit("a", pause).is_ok()).count(), 5, "after a pause");
    }

    #[test]
    fn a_check_counts_nothing() {
        let (mut admission, start) = (Admission::new(rate(1, 1), 100), start());
        assert!((0..10).all(|_| admission.check("a", start).is_ok()));
        assert!(admission.is_empty());
        admission.admit("a", start).unwrap();
        assert_eq!(admission.check("a", start), Err(Duration::from_secs(1)));
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share() {
        let (mut admission, start) = (Admission::new(rate(10, 2), 100), start());
        let granted = (0..10_000).filter(|n| admission.admit(*n, start).is_ok()).count();
        assert_eq!(granted, 102, "a hundred by themselves, then two for all others");
        assert_eq!(admission.len(), 101);
        assert!(admission.admit(7, start).is_ok(), "who has an entry keeps it");
        assert!(admission.admit(10_000, start + Duration::from_secs(1)).is_ok(), "there is room again");
        assert!(admission.len() < 101);
    }
}
