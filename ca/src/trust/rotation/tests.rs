//! The state machine as a table, and over simulated time with a fleet that learns roots at renewal.

use std::{cmp::min, collections::BTreeSet};

use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
const HOUR: Duration = Duration::HOUR;

fn slot(generation: u32, from: OffsetDateTime, life: Duration) -> RootSlot {
    RootSlot { generation, sha256: format!("{generation:064}"), not_before: from, not_after: from + life }
}

fn steady() -> Rotation {
    Rotation::of(slot(1, START, Duration::days(3650)))
}

fn prepared() -> Rotation {
    steady().prepare(slot(2, START, Duration::days(3650)), START).unwrap()
}

fn published() -> Rotation {
    prepared().advance(Step::Publish, false, START).unwrap()
}

fn retiring() -> Rotation {
    published().taken_up(START).advance(Step::Activate, false, START).unwrap()
}

fn retired_by_itself() -> Rotation {
    retiring().taken_up(START).advance_by_itself(Step::Retire, START).unwrap()
}

/// CA.md C40.
#[test]
fn the_key_of_a_root_that_retires_by_itself_is_kept_for_thirty_days_of_running() {
    let rotation = retired_by_itself();
    let kept =
        |rotation: &Rotation| rotation.kept().iter().map(|one| one.root.generation).collect::<Vec<_>>();
    assert_eq!((rotation.trusted(), kept(&rotation), rotation.next_generation()), (vec![2], vec![1], 3));
    let day = 24 * 60 * 60;
    let rotation = rotation.kept_for(29 * day);
    assert_eq!(kept(&rotation), [1], "whatever the wall clock says");
    assert_eq!(kept(&rotation.clone().kept_for(day)), [0; 0]);
    assert_eq!(kept(&rotation.clone().advance(Step::Retire, false, START).unwrap()), [0; 0], "by a person");
    // The next rotation leaves it alone.
    let next = rotation.prepare(slot(3, START, HOUR), START).unwrap();
    assert_eq!(kept(&next), [1]);
    assert_eq!(kept(&next.clone().advance(Step::Abandon, false, START).unwrap()), [1]);
    let text = serde_json::to_string(&next).unwrap();
    assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), next, "{text}");
}

#[test]
fn the_root_before_can_sign_again() {
    let back = retiring().advance(Step::Restore, false, START).unwrap();
    assert_eq!((back.trusted(), back.next_generation()), (vec![1, 2], 3), "safe while both are trusted");
    let refused = retired_by_itself().advance(Step::Restore, false, START).unwrap_err().to_string();
    assert!(refused.contains("workloads that have renewed since"), "{refused}");
    let back = retired_by_itself().advance(Step::Restore, true, START).unwrap();
    assert_eq!((back.trusted(), back.kept().len()), (vec![1, 2], 0));
    let done = back.taken_up(START).advance(Step::Retire, false, START).unwrap();
    assert_eq!((done.trusted(), done.next_generation()), (vec![1], 2));
}

/// Wall clocks that jump at random, for moments and for hours: no two steps are within ten minutes of real time, none is
/// taken while the clock is wrong by a jump of less than an hour, and no key is gone before it was kept for 30 days.
#[test]
fn a_clock_that_jumps_never_destroys_a_root() {
    use crate::wall_clock::{Reading, WallClock};
    const LOOK: u64 = 30;
    let ten_minutes = 600;
    for seed in 0..30_u64 {
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            number % below
        };
        let life = Duration::days(3650);
        let long = std::time::Duration::try_from(life).unwrap();
        let mut rotation = Rotation::of(slot(1, START, life));
        let (mut error, mut until) = (Duration::ZERO, 0);
        let mut clock = WallClock::new(Reading { wall: START, running: std::time::Duration::ZERO });
        let mut last_step = None;
        for running in (LOOK..48 * 3600).step_by(30) {
            if running >= until {
                // Right half of the time, else years off, for at most 50 minutes.
                error = match random(2) {
                    0 => Duration::ZERO,
                    _ => Duration::days(i64::try_from(random(8000)).unwrap() - 1000),
                };
                until = running + LOOK + random(3000);
            }
            let real = START + Duration::seconds(i64::try_from(running).unwrap());
            let now = Reading { wall: real + error, running: std::time::Duration::from_secs(running) };
            clock.see(now, long);
            if rotation.awaits_signer() {
                rotation = rotation.taken_up(now.wall);
            }
            let Some(step) = rotation.due(now.wall).filter(|_| clock.may_step(now, long)) else { continue };
            assert_eq!(error, Duration::ZERO, "seed {seed}: {step} at a wrong time");
            assert!(
                last_step.is_none_or(|last| running - last >= ten_minutes),
                "seed {seed}: {step} too soon"
            );
            last_step = Some(running);
            clock.stepped(now);
            rotation = match step {
                Step::Prepare => rotation.clone().prepare(slot(2, now.wall, life), now.wall).unwrap(),
                step => rotation.advance_by_itself(step, now.wall).unwrap(),
            };
        }
        assert_eq!(rotation, Rotation::of(slot(1, START, life)), "seed {seed}: nothing was due");
    }
}

/// A clock that is ten years ahead from the start on, for good: the steps come one at a time, and the key stays.
#[test]
fn a_clock_that_is_wrong_from_the_start_destroys_no_key() {
    use crate::wall_clock::{Reading, WallClock};
    let (life, off) = (Duration::days(3650), Duration::days(3649));
    let long = std::time::Duration::try_from(life).unwrap();
    let mut rotation = Rotation::of(slot(1, START, life));
    let reading = |running: u64| Reading {
        wall: START + off + Duration::seconds(i64::try_from(running).unwrap()),
        running: std::time::Duration::from_secs(running),
    };
    let mut clock = WallClock::new(reading(0));
    let mut steps = Vec::new();
    for running in 1..4 * 3600 {
        let now = reading(running);
        clock.see(now, long);
        if rotation.awaits_signer() {
            rotation = rotation.taken_up(now.wall);
        }
        let Some(step) = rotation.due(now.wall).filter(|_| clock.may_step(now, long)) else { continue };
        steps.push((running, step));
        clock.stepped(now);
        rotation = match step {
            Step::Prepare => rotation.clone().prepare(slot(2, now.wall, life), now.wall).unwrap(),
            step => rotation.advance_by_itself(step, now.wall).unwrap(),
        };
    }
    use Step::{Activate, Prepare, Publish, Retire};
    assert_eq!(steps, [(600, Prepare), (1200, Publish), (1800, Activate), (2400, Retire)]);
    assert_eq!(rotation.kept().len(), 1, "and a person may restore the root before");
}

#[test]
fn the_steps_follow_each_other_and_nothing_else_does() {
    use Step::{Abandon, Activate, Prepare, Publish, Restore, Retire};
    let all = [Prepare, Publish, Activate, Retire, Abandon, Restore];
    for (rotation, possible, trusted) in [
        (steady(), &[Prepare][..], &[1][..]),
        (prepared(), &[Publish, Abandon], &[1]),
        (published().taken_up(START), &[Activate, Abandon], &[1, 2]),
        (retiring().taken_up(START), &[Retire, Restore], &[2, 1]),
        (retired_by_itself(), &[Prepare, Retire], &[2]),
    ] {
        let ok: Vec<_> = all.into_iter().filter(|step| rotation.check(*step, START).is_ok()).collect();
        assert_eq!(ok, possible.to_vec(), "{rotation:?}");
        assert_eq!(rotation.trusted(), trusted);
        for step in all.into_iter().filter(|step| !possible.contains(step)) {
            if rotation == retired_by_itself() && step == Restore {
                continue; // may be forced
            }
            let refused = rotation.clone().advance(step, true, START).unwrap_err();
            assert!(
                matches!(refused, Refused::Order { .. }),
                "force helps against no wrong order: {refused}"
            );
        }
    }
    let done = retiring().taken_up(START).advance(Step::Retire, false, START).unwrap();
    assert_eq!(done, Rotation::of(slot(2, START, Duration::days(3650))));
    assert_eq!(
        (done.next_generation(), prepared().next_generation(), retiring().next_generation()),
        (3, 3, 3)
    );
    assert_eq!(published().advance(Step::Abandon, false, START).unwrap(), steady());
}

#[test]
fn an_unsafe_step_says_from_when_it_is_safe_and_what_would_break() {
    let published = published();
    assert!(published.awaits_signer());
    let said = published.check(Step::Activate, START + Duration::days(999)).unwrap_err().to_string();
    assert!(said.contains("has not applied the last step"), "{said}");
    let published = published.taken_up(START + HOUR);
    assert_eq!(published.clone().taken_up(START), published, "the first word counts");
    let early = published.check(Step::Activate, START + HOUR - Duration::SECOND).unwrap_err();
    assert!(early.to_string().contains("not safe before 2026-11-24T13:00:00Z"), "{early}");
    assert!(early.to_string().contains("would reject all certificates"), "{early}");
    assert_eq!(published.check(Step::Activate, START + HOUR), Ok(()));
    let forced = published.advance(Step::Activate, true, START).unwrap();
    assert_eq!(forced.active().generation, 2);
    assert!(
        forced
            .advance(Step::Retire, false, START)
            .unwrap_err()
            .to_string()
            .starts_with("retire: not safe yet")
    );

    // A root that is not valid yet must not sign, whatever has been renewed.
    let future = steady().prepare(slot(2, START + HOUR * 2, HOUR * 99), START).unwrap();
    let future = future.advance(Step::Publish, false, START).unwrap().taken_up(START);
    assert!(future.check(Step::Activate, START + HOUR).is_err());
}

/// CA.md C21.
#[test]
fn the_schedule() {
    let long = slot(1, START, Duration::days(3650));
    assert_eq!(long.prepare_at(Duration::ZERO), long.not_after - Duration::days(30));
    let longest = Duration::days(90);
    assert_eq!(long.prepare_at(longest), long.activate_at() - longest - Duration::DAY, "in time to sign");
    let by = |time| Rotation::of(long.clone()).due_before(longest, time);
    assert_eq!(
        (by(long.not_after - Duration::days(99)), by(long.not_after - Duration::days(98))),
        (None, Some(Step::Prepare))
    );
    assert_eq!(long.activate_at(), long.not_after - Duration::days(7));
    let short = slot(1, START, HOUR * 6);
    assert_eq!((short.prepare_at(longest), short.activate_at()), (START + HOUR * 3, START + HOUR * 5));
    assert_eq!(Rotation::of(short.clone()).due(START + HOUR * 3 - Duration::SECOND), None);
    assert_eq!(Rotation::of(short).due(START + HOUR * 3), Some(Step::Prepare));
}

#[test]
fn it_reads_what_it_wrote() {
    for rotation in [steady(), prepared(), published(), published().taken_up(START), retiring()] {
        let text = serde_json::to_string(&rotation).unwrap();
        assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), rotation, "{text}");
    }
    let text = serde_json::to_string(&published().taken_up(START)).unwrap();
    assert!(
        text.contains(r#""phase":"published""#) && text.contains(r#""covered":"2026-11-24T12:00:00Z""#),
        "{text}"
    );
}

/// A workload: the root that its certificate leads to, the roots it trusts, and when it renews and expires.
struct Workload {
    signed_by: u32,
    trusts: BTreeSet<u32>,
    renews: OffsetDateTime,
    expires: OffsetDateTime,
}

/// Over many lives of roots and certificates, automatic steps never leave two workloads with valid certificates that
/// refuse each other, and never leave the CA without a valid root, if that lives six times as long as a certificate.
#[test]
fn no_two_workloads_ever_refuse_each_other() {
    let minute = Duration::MINUTE;
    for (root_life, leaf_life, latency) in
        [(600, 24, 0), (600, 24, 3), (300, 50, 1), (240, 40, 1), (60, 7, 0), (5000, 1440, 5)]
    {
        let (mut now, mut made) = (START, 1);
        let mut rotation = Rotation::of(slot(1, now, minute * root_life));
        let mut taken_up_at = None;
        let issue = |rotation: &Rotation, now: OffsetDateTime, seed: i32| {
            let expires: OffsetDateTime = min(now + minute * leaf_life, rotation.active().not_after);
            // Each renews somewhere between a third of its life and the very end.
            let renews = now + (expires - now) * (0.34 + 0.65 * f64::from(seed * 37 % 100) / 100.0);
            let (signed_by, trusts) =
                (rotation.active().generation, rotation.trusted().into_iter().collect());
            Workload { signed_by, trusts, renews, expires }
        };
        let mut fleet: Vec<_> = (0..25).map(|seed| issue(&rotation, now, seed)).collect();
        let mut horizon = fleet.iter().map(|workload| workload.expires).max().unwrap();
        let mut seen = BTreeSet::new();
        for minutes in 0..root_life * 4 {
            now = START + minute * minutes;
            if rotation.awaits_signer() {
                let due = *taken_up_at.get_or_insert(now + minute * latency);
                if now >= due {
                    (rotation, taken_up_at) = (rotation.taken_up(horizon), None);
                }
            }
            while let Some(step) = rotation.due(now) {
                seen.insert(step);
                rotation = match step {
                    Step::Prepare => {
                        made = rotation.next_generation();
                        rotation.prepare(slot(made, now, minute * root_life), now).unwrap()
                    }
                    step => rotation.advance(step, false, now).unwrap(),
                };
            }
            assert!(rotation.active().not_after > now, "{root_life}/{leaf_life}: the root ran out");
            for (seed, workload) in (0..).zip(&mut fleet) {
                if workload.renews <= now {
                    *workload = issue(&rotation, now, seed + minutes);
                    horizon = horizon.max(workload.expires);
                }
            }
            let alive: Vec<_> = fleet.iter().filter(|workload| workload.expires > now).collect();
            for (one, other) in alive.iter().flat_map(|one| alive.iter().map(move |other| (one, other))) {
                assert!(
                    one.trusts.contains(&other.signed_by),
                    "{root_life}/{leaf_life}: refused at minute {minutes}"
                );
            }
        }
        assert!(made >= 3, "{root_life}/{leaf_life}: only {made} roots");
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
