//! When to renew a certificate and when to retry. Pure: takes times and random values.

use std::time::{Duration, SystemTime};

/// A renewal is moved by up to this fraction of the lifetime, so that many workloads do not renew at the same time.
const JITTER: f64 = 0.05;
/// Shortest time between two attempts, and the first ceiling of the back-off.
const RETRY_FLOOR: Duration = Duration::from_millis(200);
/// Longest time between two attempts while the certificate is far from its expiry, or before the first one.
const RETRY_CEILING: Duration = Duration::from_secs(15);
/// Longest time between two attempts once the certificate has expired or is about to.
const URGENT_CEILING: Duration = Duration::from_secs(2);
/// A retry waits at most for the remaining lifetime divided by this.
const PARTS_OF_LIFE_LEFT: u32 = 8;

/// When to renew a certificate that was obtained at `obtained`: at half of its lifetime, plus or minus 5 %.
///
/// The life counts from `obtained`, not from the back-dated start of validity. `random` is in `0..1`.
pub(crate) fn renew_at(obtained: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let life = not_after.duration_since(obtained).unwrap_or_default();
    let share = 0.5 + JITTER * (2.0 * random - 1.0);
    obtained + life.mul_f64(share).max(RETRY_FLOOR)
}

/// How long to wait after the `failures`th failure in a row, counted from one.
///
/// Exponential back-off with full jitter from 0.2 s to 15 s. The nearer the expiry of the certificate
/// held, the shorter; 2 s at most once it has expired. `left` is the life that is left, zero after
/// expiry, `None` when no certificate was ever held. `random` is in `0..1`.
pub(crate) fn retry_after(failures: u32, left: Option<Duration>, random: f64) -> Duration {
    let exponential = RETRY_FLOOR * 2u32.pow(failures.min(10));
    let urgent = left.map_or(RETRY_CEILING, |left| (left / PARTS_OF_LIFE_LEFT).max(URGENT_CEILING));
    let ceiling = exponential.min(RETRY_CEILING).min(urgent);
    RETRY_FLOOR + (ceiling - RETRY_FLOOR).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn renewal_comes_at_half_of_the_life_with_jitter() {
        let obtained = SystemTime::UNIX_EPOCH + DAY;
        let at = |random| renew_at(obtained, obtained + DAY, random).duration_since(obtained).unwrap();
        assert_eq!(at(0.5), DAY / 2);
        assert_eq!(at(0.0), DAY.mul_f64(0.45));
        assert_eq!(at(1.0), DAY.mul_f64(0.55));
    }

    #[test]
    fn a_certificate_without_life_is_not_renewed_in_a_busy_loop() {
        let now = SystemTime::UNIX_EPOCH + DAY;
        assert_eq!(renew_at(now, now - DAY, 0.0), now + RETRY_FLOOR);
    }

    #[test]
    fn retries_grow_from_a_fifth_of_a_second_to_fifteen_seconds() {
        let longest = |failures| retry_after(failures, Some(DAY), 1.0);
        assert_eq!(longest(1), Duration::from_millis(400));
        assert_eq!(longest(2), Duration::from_millis(800));
        assert_eq!(longest(20), RETRY_CEILING);
        assert_eq!(longest(u32::MAX), RETRY_CEILING);
        assert_eq!(retry_after(20, Some(DAY), 0.0), RETRY_FLOOR, "full jitter");
        assert_eq!(retry_after(20, None, 1.0), RETRY_CEILING, "nothing held");
    }

    #[test]
    fn retries_become_denser_as_expiry_nears_and_stay_dense_after_it() {
        let longest = |seconds| retry_after(20, Some(Duration::from_secs(seconds)), 1.0);
        assert_eq!(longest(3600), RETRY_CEILING);
        assert_eq!(longest(80), Duration::from_secs(10));
        assert_eq!(longest(16), URGENT_CEILING);
        assert_eq!(longest(0), URGENT_CEILING);
    }
}
