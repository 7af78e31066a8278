//! Back-off from other writers of the same object.

use std::time::{Duration, Instant};

/// Repetitions that are made at once: somebody changed an object by hand.
const AT_ONCE: u32 = 2;
/// The first pause after them; it doubles with each repetition.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without a repetition, the count starts again.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The writes of the same content to one object.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Contention {
    last: Option<Instant>,
    repeats: u32,
}

impl Contention {
    /// When the object may be written again; `None`: at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.last? + pause(self.repeats))
    }

    /// Notes a write.
    pub(crate) fn wrote(&mut self, now: Instant) {
        let counts = |last: &Instant| now.saturating_duration_since(*last) < FORGOTTEN;
        self.repeats = if self.last.is_some_and(|last| counts(&last)) { self.repeats + 1 } else { 0 };
        self.last = Some(now);
    }

    /// Whether writes are delayed, and by how much.
    pub(crate) fn delay(&self) -> Option<Duration> {
        Some(pause(self.repeats)).filter(|pause| !pause.is_zero())
    }
}

fn pause(repeats: u32) -> Duration {
    match repeats.checked_sub(AT_ONCE) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST * 2_u32.pow(doublings.min(16))).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_by_hand_is_put_back_at_once_and_a_rival_ever_later() {
        let start = Instant::now();
        let mut contention = Contention::default();
        let (mut now, mut waits) = (start, Vec::new());
        assert!(contention.due().is_none());
        for _ in 0..12 {
            contention.wrote(now);
            let due = contention.due().unwrap().max(now);
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        contention.wrote(now + FORGOTTEN);
        assert_eq!(contention.delay(), None, "the rival is gone");
    }
}
