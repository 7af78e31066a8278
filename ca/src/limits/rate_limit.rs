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

    /// The time that a whole burst takes up, less one request.
    fn leeway(self) -> Duration {
        self.interval() * (self.burst.get() - 1)
    }
}

/// A token bucket for each key. An entry is one time: when the bucket of the key will be full again. A key with a full
/// bucket needs no entry. When there are `max_keys` entries, all further keys share one bucket, so memory is bounded.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    max_keys: usize,
    /// When the bucket of a key is full again; `None` is the bucket that keys without an entry share.
    full_at: BTreeMap<Option<K>, Instant>,
    /// When entries of full buckets were last removed.
    swept: Option<Instant>,
}

impl<K: Ord> RateLimiter<K> {
    /// Allows each key requests at `rate`; at most `max_keys` keys have entries of their own.
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        Self { rate, max_keys, full_at: BTreeMap::new(), swept: None }
    }

    /// Whether a request of `key` is allowed at `now`. It is not counted.
    ///
    /// # Errors
    /// How long to wait until the next request.
    pub fn check(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.bucket(key, now).map(|_| ())
    }

    /// Counts a request of `key` at `now` if it is allowed.
    ///
    /// # Errors
    /// How long to wait until the next request.
    pub fn admit(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let (key, full_at) = self.bucket(key, now)?;
        self.full_at.insert(key, full_at + self.rate.interval());
        Ok(())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    /// The bucket of `key` and the time from which its next request counts.
    fn bucket(&mut self, key: K, now: Instant) -> Result<(Option<K>, Instant), Duration> {
        let key = Some(key);
        let key = if self.full_at.contains_key(&key) || self.has_room(now) { key } else { None };
        let full_at = self.full_at.get(&key).copied().unwrap_or(now).max(now);
        match (full_at - now).checked_sub(self.rate.leeway()) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok((key, full_at)),
        }
    }

    /// Whether there is room for another entry. Entries of full buckets are removed at most once in the time of one
    /// request.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.full_at.len() >= self.max_keys
            && self.swept.is_none_or(|last| now - last >= self.rate.interval())
        {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept = Some(now);
        }
        self.full_at.len() < self.max_keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    /// The time of the first request.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_then_the_steady_rate() {
        let (mut limiter, start) = (RateLimiter::new(rate(10, 5), 100), start());
        let granted = (0..10_000).filter(|_| limiter.admit("a", start).is_ok()).count();
        assert_eq!(granted, 5, "at one moment");
        let wait = limiter.admit("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(limiter.admit("b", start).is_ok(), "other keys are not affected");
        assert!(
            limiter.admit("a", start + wait).is_ok(),
            "a caller that waits as long as stated is admitted"
        );
        let second = |n: u64| start + Duration::from_millis(100 * n);
        let granted = (1..=100).filter(|n| limiter.admit("a", second(*n)).is_ok()).count();
        assert!((98..=100).contains(&granted), "{granted} of 100 at the steady rate");
        let pause = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| limiter.admit("a", pause).is_ok()).count(), 5, "after a pause");
    }

    #[test]
    fn a_check_is_not_counted() {
        let (mut limiter, start) = (RateLimiter::new(rate(1, 1), 100), start());
        assert!((0..10).all(|_| limiter.check("a", start).is_ok()));
        assert!(limiter.is_empty());
        limiter.admit("a", start).unwrap();
        assert_eq!(limiter.check("a", start), Err(Duration::from_secs(1)));
    }

    #[test]
    fn memory_is_bounded_and_further_keys_share_a_bucket() {
        let (mut limiter, start) = (RateLimiter::new(rate(10, 2), 100), start());
        let granted = (0..10_000).filter(|n| limiter.admit(*n, start).is_ok()).count();
        assert_eq!(granted, 102, "100 keys with a bucket of their own, then two requests of all others");
        assert_eq!(limiter.len(), 101);
        assert!(limiter.admit(7, start).is_ok(), "a key with an entry keeps it");
        assert!(limiter.admit(10_000, start + Duration::from_secs(1)).is_ok(), "there is room again");
        assert!(limiter.len() < 101);
    }
}
