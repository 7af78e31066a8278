//! How many lines of the log one stream may cause.

use std::time::{Duration, Instant};

/// Lines in a row.
const BURST: u32 = 10;
/// How long it takes until one more is due.
const REFILL: Duration = Duration::from_secs(10);

/// Lets ten lines through, and then one every ten seconds; it counts the others.
#[derive(Debug)]
pub(crate) struct LineQuota {
    left: u32,
    since: Instant,
    dropped: u64,
}

impl LineQuota {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, dropped: 0 }
    }

    /// How many lines were left out before this one; `None` if it is left out, too.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let due = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        if due > 0 {
            self.left = self.left.saturating_add(u32::try_from(due).unwrap_or(BURST)).min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            self.dropped += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_makes_a_line_every_ten_seconds() {
        let start = Instant::now();
        let mut quota = LineQuota::new(start);
        assert_eq!((0..1000).filter_map(|_| quota.take(start)).count(), 10);
        assert_eq!(quota.take(start + REFILL), Some(990));
        assert_eq!(quota.take(start + REFILL), None);
        assert_eq!(quota.take(start + 2 * REFILL), Some(1));
    }
}
