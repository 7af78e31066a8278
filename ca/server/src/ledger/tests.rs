//! Ledgers on disk: after crashes, with several writers, full, moved and damaged.

use std::fs;

use eastwest_ca::{
    NewRoot,
    ledger::{Event, Issued, Problem, Refused, Report, Requester},
    rotation::Step,
};
use eastwest_identity::{SpiffeId, TrustDomain};
use eastwest_io::files;
use time::OffsetDateTime;

use super::*;
use crate::{KeyMaterial, StateDir, roots::manual_rotation};

/// A state directory with a CA.
struct Home {
    dir: tempfile::TempDir,
    keys: KeyMaterial,
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let keys = state.load_or_create(&NewRoot::of(TrustDomain::parse("td").unwrap()), now()).unwrap();
        Self { dir, keys }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn config(&self) -> LedgerConfig {
        LedgerConfig::of(&self.state())
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment::path(&self.config().dir, number)
    }

    fn commit(&self, journal: &mut Journal, serials: std::ops::Range<u64>) -> Result<(), LedgerError> {
        let events: Vec<Event> = serials.map(issued).collect();
        journal.commit(&events, &self.keys.issuer, now())
    }

    fn verify(&self) -> Report {
        verify(&self.state(), &self.keys.roots, None).unwrap()
    }

    fn query(&self, query: Query) -> Vec<String> {
        let (found, report) = super::query(&self.state(), &self.keys.roots, &query);
        report.unwrap();
        let name = |event| match event {
            Event::Issued(issued) => issued.serial,
            Event::Refused(refused) => refused.code,
            other => panic!("{other:?}"),
        };
        found.into_iter().map(|record| name(record.event)).collect()
    }
}

fn identity(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td/ns/shop/sa/{account}")).unwrap()
}

fn issued(serial: u64) -> Event {
    let (serial, key, key_sha256) = (format!("{serial:x}"), "ECDSA P-256".to_owned(), "00".repeat(32));
    let (identity, requester) = (identity("reviews"), Requester::default());
    Event::Issued(Box::new(Issued {
        names: Vec::new(),
        identity,
        serial,
        key,
        key_sha256,
        not_after: now(),
        ttl: 60,
        requester,
    }))
}

fn refused(account: &str, code: &str) -> Event {
    let requester = Requester { caller: Some(identity(account)), ..Requester::default() };
    Event::Refused(Box::new(Refused::new(code, "no", requester)))
}

#[test]
fn what_is_committed_is_found_again() {
    let home = Home::new();
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..3).unwrap();
    let later = [refused("ratings", "InvalidArgument"), refused("reviews", "ResourceExhausted")];
    journal.commit(&later, &home.keys.issuer, now()).unwrap();
    let report = home.verify();
    assert_eq!((report.issued, report.refused, report.checkpoints, report.uncovered), (3, 2, 2, 0));
    for file in [home.segment(1), home.config().dir.join("key.pem"), home.config().dir.join("lock")] {
        assert_eq!(files::mode(&file).unwrap(), 0o600, "{}", file.display());
    }
    assert_eq!(files::mode(&home.config().dir).unwrap(), 0o700);

    let of = |identity: &str| Query { identity: Some(identity.to_owned()), ..Query::default() };
    assert_eq!(home.query(Query::default()), ["0", "1", "2", "InvalidArgument", "ResourceExhausted"]);
    assert_eq!(home.query(of("shop/ratings")), ["InvalidArgument"]);
    assert_eq!(home.query(of(identity("reviews").as_str())), ["0", "1", "2", "ResourceExhausted"]);
    assert_eq!(home.query(Query { refused: true, ..of("shop/reviews") }), ["ResourceExhausted"]);
    assert_eq!(home.query(Query { serial: Some("2".to_owned()), ..Query::default() }), ["2"]);
    let future = now() + time::Duration::hours(1);
    assert!(home.query(Query { since: Some(future), ..Query::default() }).is_empty());
}

/// A crash at any byte of a commit: what was answered stays, what was not is cut off, and that is noted.
#[test]
fn a_torn_end_is_cut_off_and_noted() {
    let home = Home::new();
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..2).unwrap();
    let whole = fs::read(home.segment(1)).unwrap();
    home.commit(&mut journal, 2..5).unwrap();
    let later = fs::read(home.segment(1)).unwrap();
    for length in (whole.len() + 1..later.len()).step_by(97).chain([later.len() - 1]) {
        let torn = &later[..length];
        fs::write(home.segment(1), torn).unwrap();
        let unfinished = home.verify().unfinished;
        home.commit(&mut Journal::open(&home.config()).unwrap(), 5..6).unwrap();
        let report = home.verify();
        assert_eq!(report.repaired, u64::from(unfinished > 0), "{length}");
        let found = home.query(Query::default());
        assert!(found.starts_with(&["0".to_owned(), "1".to_owned()]), "{found:?}");
        assert_eq!(found.last().unwrap(), "5");
    }
    // Zeros, as a file system leaves them after a power cut.
    fs::write(home.segment(1), [&whole[..], &[0; 5000]].concat()).unwrap();
    home.commit(&mut Journal::open(&home.config()).unwrap(), 6..7).unwrap();
    assert_eq!((home.verify().repaired, home.verify().issued), (1, 3));
}

/// Only the end of an unfinished write may be cut off. Anything else is for people to look at.
#[test]
fn damage_is_refused_and_nothing_is_touched() {
    let home = Home::new();
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..2).unwrap();
    home.commit(&mut journal, 2..4).unwrap();
    let whole = fs::read(home.segment(1)).unwrap();
    for at in [20, 300, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[at] = b'~';
        fs::write(home.segment(1), &damaged).unwrap();
        let error = home.commit(&mut Journal::open(&home.config()).unwrap(), 4..5).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{at}: {error}");
        assert_eq!(fs::read(home.segment(1)).unwrap(), damaged);
        assert!(matches!(verify(&home.state(), &home.keys.roots, None), Err(ReadError::Broken(_))));
    }
}

/// Files that were exchanged, copied or lost stop the start as well, whichever they are.
#[test]
fn files_that_do_not_follow_each_other_are_refused() {
    let home = Home::new();
    let config = LedgerConfig { segment_bytes: 4000, ..home.config() };
    let mut journal = Journal::open(&config).unwrap();
    for n in 0..20 {
        home.commit(&mut journal, n..n + 1).unwrap();
    }
    let newest = home.verify().segments;
    assert!(newest > 3);
    let all: Vec<_> = (1..=newest).map(|number| fs::read(home.segment(number)).unwrap()).collect();
    let refused = |said: &str, change: &dyn Fn()| {
        change();
        let error = home.commit(&mut Journal::open(&config).unwrap(), 20..21).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("ledger verify"), "{said}: {error}");
        assert!(verify(&home.state(), &home.keys.roots, None).is_err(), "{said}");
        for (number, text) in (1..=newest).zip(&all) {
            fs::write(home.segment(number), text).unwrap();
        }
    };
    let copy = |from: u64, to: u64| fs::copy(home.segment(from), home.segment(to)).map(|_| ()).unwrap();
    refused("says that it is file 1: it is a copy", &|| copy(1, newest));
    refused("says that it is file 1: it is a copy", &|| copy(1, 2));
    refused(&format!("says that it is file {newest}"), &|| copy(newest, newest - 1));
    refused("file 2 before it is missing", &|| fs::remove_file(home.segment(2)).unwrap());
    let cut = all[1][..all[1].len() - 10].to_vec();
    refused("its last record is cut off", &|| fs::write(home.segment(2), &cut).unwrap());
    let shorter =
        all[1].strip_suffix(b"\n").and_then(|text| text.iter().rposition(|byte| *byte == b'\n')).unwrap();
    refused("it does not begin where file 2 ends", &|| {
        fs::write(home.segment(2), &all[1][..=shorter]).unwrap()
    });
    refused("does not begin as a file of a ledger", &|| fs::write(home.segment(2), "").unwrap());

    home.commit(&mut Journal::open(&config).unwrap(), 20..21).unwrap();
    fs::remove_file(home.segment(1)).unwrap();
    home.commit(&mut Journal::open(&config).unwrap(), 21..22).unwrap();
    assert_eq!(home.verify().first_segment, 2, "the oldest may be moved away");
}

#[test]
fn several_writers_take_turns() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let home = &home;
            scope.spawn(move || {
                let mut journal = Journal::open(&home.config()).unwrap();
                for n in 0..25 {
                    let serial = writer * 100 + n;
                    home.commit(&mut journal, serial..serial + 1).unwrap();
                }
            });
        }
    });
    let report = home.verify();
    assert_eq!((report.issued, report.repaired), (100, 0));
}

#[test]
fn full_and_old_segments_are_followed() {
    let home = Home::new();
    let config = LedgerConfig { segment_bytes: 4000, ..home.config() };
    let mut journal = Journal::open(&config).unwrap();
    for n in 0..20 {
        home.commit(&mut journal, n..n + 1).unwrap();
    }
    let report = home.verify();
    assert!(report.segments > 3, "{report:?}");
    assert_eq!(report.issued, 20);
    let month = now() + time::Duration::days(31);
    journal.commit(&[issued(20)], &home.keys.issuer, month).unwrap();
    assert_eq!(home.verify().segments, report.segments + 1, "by age");

    // A crash while a segment began: nothing or half a line is in it.
    let newest = report.segments + 2;
    for text in ["", "{\"hash\":\"00"] {
        fs::write(home.segment(newest), text).unwrap();
        home.commit(&mut Journal::open(&config).unwrap(), 21..22).unwrap();
    }
    let report = home.verify();
    assert_eq!((report.issued, report.repaired), (23, 1));

    fs::remove_file(home.segment(1)).unwrap();
    assert_eq!(home.verify().first_segment, 2, "older ones may be moved away");
    fs::remove_file(home.segment(3)).unwrap();
    let Err(ReadError::Broken(broken)) = verify(&home.state(), &home.keys.roots, None) else { panic!() };
    assert_eq!(broken.problem, Problem::MissingSegment(3));
}

/// The CA rotates: its new key certifies the ledger's, and either root serves for all records.
#[test]
fn the_ledger_goes_on_under_another_ca_key() {
    let (home, next) = (Home::new(), Home::new());
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..2).unwrap();
    for serial in 2..4 {
        journal.commit(&[issued(serial)], &next.keys.issuer, now()).unwrap();
    }
    for roots in [&home.keys.roots, &next.keys.roots] {
        assert_eq!(verify(&home.state(), roots, None).unwrap().issued, 4);
    }
    let text = fs::read_to_string(home.segment(1)).unwrap();
    assert_eq!(text.matches(r#""event":"signer""#).count(), 2, "once for each key");
}

/// Two rotations, three ledger keys and many segments: what the directory holds is enough to verify all of it, and what
/// is taken away, cut or exchanged is found.
#[test]
fn a_ledger_across_rotations_verifies_with_the_directory_alone() {
    let home = Home::new();
    let state = StateDir::open(&home.state()).unwrap();
    let config = LedgerConfig { segment_bytes: 4000, ..home.config() };
    let mut serial = 0;
    for rotation in 0..3 {
        if rotation > 0 {
            for step in [Step::Prepare, Step::Publish, Step::Activate, Step::Retire] {
                manual_rotation::rotate(state.path(), step, |new| new, false, now()).unwrap();
            }
            // The key before has no certificate by a root that is still in force.
            fs::remove_file(config.dir.join("key.pem")).unwrap();
        }
        let issuer = state.load(now()).unwrap().issuer;
        let mut journal = Journal::open(&config).unwrap();
        for _ in 0..8 {
            journal.commit(&[issued(serial)], &issuer, now()).unwrap();
            serial += 1;
        }
    }
    let roots = state.ledger_roots().unwrap();
    assert_eq!(roots.certificates().count(), 3);
    let report = verify(&home.state(), &roots, None).unwrap();
    assert_eq!(report.issued, 24);
    assert!(report.segments > 5, "{report:?}");
    let newest = verify(&home.state(), &state.load(now()).unwrap().roots, None);
    let Err(ReadError::Broken(broken)) = newest else { panic!("{newest:?}") };
    assert!(matches!(broken.problem, Problem::Untrusted(_)), "the newest root alone: {broken}");

    let known = Some((report.last, report.head.parse().unwrap()));
    let (last, away) = (home.segment(report.segments), home.dir.path().join("away"));
    let judge = || verify(&home.state(), &roots, known);
    fs::rename(&last, &away).unwrap();
    assert!(matches!(judge(), Err(ReadError::Missing { .. })), "the newest segment is gone");
    let whole = fs::read(&away).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&last, &whole[..first]).unwrap();
    assert!(matches!(judge(), Err(ReadError::Missing { .. })), "it was cut");
    fs::rename(&away, &last).unwrap();
    assert!(judge().is_ok());
    for (one, other) in [(1, 2), (3, 4)] {
        let swap = || {
            fs::rename(home.segment(one), &away).unwrap();
            fs::rename(home.segment(other), home.segment(one)).unwrap();
            fs::rename(&away, home.segment(other)).unwrap();
        };
        swap();
        let Err(ReadError::Broken(broken)) = judge() else { panic!("{one} and {other} are exchanged") };
        assert_eq!((broken.segment, broken.line), (one, 1), "{broken}");
        swap();
    }
    fs::rename(home.segment(4), &away).unwrap();
    let Err(ReadError::Broken(broken)) = judge() else { panic!("a segment in the middle is gone") };
    assert_eq!(broken.problem, Problem::MissingSegment(4));
}

/// The newest records can be taken away without a trace in the ledger: only a head kept elsewhere shows it.
#[test]
fn a_ledger_that_was_cut_short_is_told_by_a_known_head() {
    let home = Home::new();
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..1).unwrap();
    let short = fs::read(home.segment(1)).unwrap();
    home.commit(&mut journal, 1..2).unwrap();
    let report = home.verify();
    let known = Some((report.last, report.head.parse().unwrap()));
    assert!(verify(&home.state(), &home.keys.roots, known).is_ok());
    fs::write(home.segment(1), short).unwrap();
    assert!(verify(&home.state(), &home.keys.roots, None).is_ok());
    let missing = verify(&home.state(), &home.keys.roots, known);
    assert!(matches!(missing, Err(ReadError::Missing { .. })), "{missing:?}");
}

#[test]
fn a_file_that_was_replaced_is_not_written() {
    let home = Home::new();
    let mut journal = Journal::open(&home.config()).unwrap();
    home.commit(&mut journal, 0..1).unwrap();
    let away = home.dir.path().join("away");
    fs::rename(home.segment(1), &away).unwrap();
    assert!(home.commit(&mut journal, 1..2).is_err(), "moved away");
    fs::copy(&away, home.segment(1)).unwrap();
    let error = home.commit(&mut journal, 1..2).unwrap_err();
    assert!(matches!(error, LedgerError::Replaced(_)), "{error}");
    fs::rename(&away, home.segment(1)).unwrap();
    home.commit(&mut journal, 2..3).unwrap();
    assert_eq!(home.query(Query::default()), ["0", "2"]);
}
