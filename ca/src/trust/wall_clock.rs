//! Whether the wall clock can be believed: it is held against a clock that nobody sets.
//!
//! A certificate's life is a matter of the wall clock, and a wall clock can be wrong for two seconds by ten years. What cannot
//! be taken back is done only while it agrees with real time, and one thing at a time (CA.md, "A clock that is wrong").

use std::time::Duration;

use time::OffsetDateTime;

/// How far the wall clock may run apart from real time before it counts as set, besides a thousandth of the time observed.
const TOLERANCE: Duration = Duration::from_secs(10);
/// Within a thousandth, clocks differ by nature and by being disciplined.
const DRIFT: u32 = 1000;
/// The longest time for which a clock that was set must go on as it is now until it is believed.
const LONGEST_DOUBT: Duration = Duration::from_secs(60 * 60);
/// The longest real time between two steps that cannot be taken back.
const LONGEST_PACE: Duration = Duration::from_secs(10 * 60);

/// What two clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The clock on the wall.
    pub wall: OffsetDateTime,
    /// Real time since some moment of this process; it never goes back.
    pub running: Duration,
}

impl Reading {
    /// How far the wall clock of `later` is off, if this one was right, and how far it may be.
    fn is_apart(&self, later: &Self) -> Option<time::Duration> {
        let passed = later.running.saturating_sub(self.running);
        let expected = time::Duration::try_from(passed).unwrap_or(time::Duration::MAX);
        let apart = (later.wall - self.wall).saturating_sub(expected);
        (apart.unsigned_abs() > TOLERANCE + passed / DRIFT).then_some(apart)
    }
}

/// What is known of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It agrees with real time.
    Agrees,
    /// It was set, by this much.
    WasSet(time::Duration),
}

/// Follows the wall clock of one process, and paces the steps that cannot be taken back.
#[derive(Debug, Clone)]
pub struct WallClock {
    /// Since when the clock is believed.
    since: Reading,
    /// Since when it goes on differently, if it was set.
    doubted: Option<Reading>,
    /// The real time of the last step.
    stepped: Option<Duration>,
}

impl WallClock {
    /// A clock of which `first` is the first reading.
    pub fn new(first: Reading) -> Self {
        Self { since: first, doubted: None, stepped: None }
    }

    /// Takes a reading. A clock that was set is believed again when it is back, or after it went on as it is for an hour, at
    /// most for a hundredth of `life`: of what the clock decides, such as the life of a root.
    pub fn see(&mut self, now: Reading, life: Duration) -> Belief {
        let Some(apart) = self.since.is_apart(&now) else {
            self.doubted = None;
            return Belief::Agrees;
        };
        let since = *self.doubted.get_or_insert(now);
        if since.is_apart(&now).is_some() {
            self.doubted = Some(now);
        } else if now.running.saturating_sub(since.running) >= LONGEST_DOUBT.min(life / 100) {
            (self.since, self.doubted) = (now, None);
            return Belief::Agrees;
        }
        Belief::WasSet(apart)
    }

    /// Whether a step that cannot be taken back may be taken: the clock agrees with real time, and has done so for a while
    /// since the start, since it was set, and since the last step. The while is ten minutes, at most a thousandth of `life`.
    pub fn may_step(&self, now: Reading, life: Duration) -> bool {
        let pace = LONGEST_PACE.min(life / 1000);
        let since = self.stepped.map_or(self.since.running, |stepped| stepped.max(self.since.running));
        self.doubted.is_none() && now.running.saturating_sub(since) >= pace
    }

    /// Notes that such a step was taken.
    pub fn stepped(&mut self, now: Reading) {
        self.stepped = Some(now.running);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
    const YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

    fn at(running: u64, wall: i64) -> Reading {
        let wall = START + time::Duration::seconds(wall);
        Reading { wall, running: Duration::from_secs(running) }
    }

    fn is_set(belief: Belief) -> bool {
        matches!(belief, Belief::WasSet(_))
    }

    #[test]
    fn a_clock_that_jumps_is_doubted_until_it_is_back() {
        let mut clock = WallClock::new(at(0, 0));
        assert_eq!(clock.see(at(900, 901), YEARS), Belief::Agrees);
        assert!(clock.may_step(at(900, 901), YEARS));
        let ten_years = 315_360_000;
        for running in 901..904 {
            let now = at(running, i64::try_from(running).unwrap() + ten_years);
            assert_eq!(clock.see(now, YEARS), Belief::WasSet(time::Duration::seconds(ten_years)));
            assert!(!clock.may_step(now, YEARS));
        }
        assert_eq!(clock.see(at(904, 904), YEARS), Belief::Agrees);
        assert!(clock.may_step(at(904, 904), YEARS), "it is as if nothing had been");
        assert!(is_set(clock.see(at(905, -5000), YEARS)), "backwards, too");
    }

    #[test]
    fn a_clock_that_stays_where_it_was_set_is_believed_after_an_hour() {
        let mut clock = WallClock::new(at(0, 0));
        let later = |running: u64| at(running, i64::try_from(running).unwrap() + 86_400);
        assert!(is_set(clock.see(later(1000), YEARS)));
        assert!(is_set(clock.see(later(1000 + 3599), YEARS)));
        assert_eq!(clock.see(later(1000 + 3600), YEARS), Belief::Agrees);
        assert!(!clock.may_step(later(1000 + 3600), YEARS), "and may decide a while later");
        assert!(clock.may_step(later(1000 + 3600 + 600), YEARS));
        // What lives for a minute cannot wait for hours.
        let mut clock = WallClock::new(at(0, 0));
        assert!(is_set(clock.see(later(10), Duration::from_secs(60))));
        assert_eq!(clock.see(later(11), Duration::from_secs(60)), Belief::Agrees);
    }

    #[test]
    fn a_clock_that_keeps_jumping_is_never_believed() {
        let mut clock = WallClock::new(at(0, 0));
        for running in 1..20_000 {
            let now = at(running, i64::try_from(running).unwrap() * 60 + 60);
            assert!(is_set(clock.see(now, YEARS)), "{running}");
        }
    }

    #[test]
    fn steps_are_apart_in_real_time() {
        let mut clock = WallClock::new(at(0, 0));
        assert!(!clock.may_step(at(599, 599), YEARS), "the first reading may be the wrong one");
        assert!(clock.may_step(at(600, 600), YEARS));
        clock.stepped(at(600, 600));
        assert!(!clock.may_step(at(1199, 1199), YEARS) && clock.may_step(at(1200, 1200), YEARS));
        let minute = Duration::from_secs(60);
        assert!(clock.may_step(at(601, 601), minute), "a root of a minute is replaced within it");
    }
}
