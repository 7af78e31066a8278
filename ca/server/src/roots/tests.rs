//! A rotation on disk: every step, what a crash in the middle of one leaves behind, and what is refused.

use std::{fs, path::Path, sync::Arc};

use eastwest_ca::{
    NewRoot,
    rotation::{Phase, Refused, Step},
    wall_clock::Reading,
};
use eastwest_identity::TrustDomain;
use time::{Duration, OffsetDateTime};

use super::{
    manual_rotation::{self, RotationView},
    rotator::{Moment, Rotator},
    steps::RotateError,
};
use crate::trust::{
    latest_expiry::LatestExpiry, root_files::RootFiles, state_dir::StateDir, storage::CaStorage,
};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn usual() -> NewRoot {
    NewRoot::of(TrustDomain::parse("shop.example").unwrap())
}

fn filled() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    state.load_or_create(&usual(), now()).unwrap();
    (dir, state)
}

fn take(state: &StateDir, step: Step) -> Result<RotationView, RotateError> {
    manual_rotation::rotate(state.path(), step, |new| new, false, now())
}

/// Serial numbers of the bundle that is written, loaded and said to be trusted; all must agree.
fn bundle(state: &StateDir) -> usize {
    let loaded = state.load(now()).unwrap();
    assert_eq!(fs::read_to_string(state.root_cert_path()).unwrap(), loaded.roots.pem());
    let trusted = state.roots().rotation().unwrap().trusted().len();
    assert_eq!(loaded.roots.certificates().count(), trusted);
    trusted
}

fn exists(state: &StateDir, name: &str) -> bool {
    state.path().join(name).exists()
}

#[test]
fn all_steps_without_a_server() {
    let (_dir, state) = filled();
    let first = state.load(now()).unwrap();
    assert_eq!(bundle(&state), 1);
    take(&state, Step::Prepare).unwrap();
    assert_eq!(bundle(&state), 1, "not published yet");
    take(&state, Step::Publish).unwrap();
    assert_eq!(bundle(&state), 2);
    assert!(state.load(now()).unwrap().issuer.same_chain(&first.issuer), "the old one signs");
    let view = take(&state, Step::Activate).unwrap();
    assert!(!view.served && !view.rotation.awaits_signer());
    let second = state.load(now()).unwrap();
    assert!(!second.issuer.same_chain(&first.issuer));
    assert_eq!(bundle(&state), 2);
    assert!(exists(&state, "ca-key.pem"));
    take(&state, Step::Retire).unwrap();
    assert_eq!(bundle(&state), 1);
    assert!(!exists(&state, "ca-key.pem"), "the key of the retired root is destroyed");
    assert!(exists(&state, "ca-cert.pem"), "its certificate stays, for old signatures");
    assert!(state.load_or_create(&usual(), now()).unwrap().issuer.same_chain(&second.issuer), "a restart");
    // The third.
    for step in [Step::Prepare, Step::Publish, Step::Activate, Step::Retire] {
        take(&state, step).unwrap();
    }
    assert_eq!(state.roots().rotation().unwrap().active().generation, 3);
    assert!(!exists(&state, "ca-2-key.pem") && exists(&state, "ca-3-key.pem"));
    let summary = crate::operations::show(state.path(), now()).unwrap();
    assert_eq!(summary.roots[0].subject, "O=shop.example, CN=root 3");
}

#[test]
fn certificates_that_live_hold_a_step_back() {
    let (_dir, state) = filled();
    take(&state, Step::Prepare).unwrap();
    let identity = eastwest_identity::SpiffeId::parse("spiffe://shop.example/ns/a/sa/b").unwrap();
    let hour = std::time::Duration::from_secs(3600);
    crate::operations::issue(state.path(), (&identity, Vec::new()), Some(hour), Default::default(), now())
        .unwrap();
    take(&state, Step::Publish).unwrap();
    let refused = take(&state, Step::Activate).unwrap_err();
    let RotateError::Refused(Refused::Unsafe { earliest: Some(earliest), .. }) = refused else {
        panic!("{refused}")
    };
    assert!((now() + Duration::minutes(59)..now() + Duration::minutes(70)).contains(&earliest), "{earliest}");
    let Phase::Published { .. } = state.roots().rotation().unwrap().phase() else {
        panic!("nothing was changed")
    };
    let later = earliest + Duration::SECOND;
    manual_rotation::rotate(state.path(), Step::Activate, |new| new, false, later).unwrap();
    manual_rotation::rotate(state.path(), Step::Retire, |new| new, false, now()).unwrap_err();
    manual_rotation::rotate(state.path(), Step::Retire, |new| new, true, now()).unwrap();
}

#[test]
fn an_abandoned_root_leaves_nothing() {
    let (_dir, state) = filled();
    let before = state.load(now()).unwrap().roots.pem();
    for steps in [&[Step::Prepare][..], &[Step::Prepare, Step::Publish]] {
        steps.iter().for_each(|step| drop(take(&state, *step).unwrap()));
        take(&state, Step::Abandon).unwrap();
        assert_eq!(state.load(now()).unwrap().roots.pem(), before);
        assert!(!exists(&state, "ca-2-key.pem") && !exists(&state, "ca-2-cert.pem"));
    }
}

/// CA.md C40. A server whose clock is years ahead, and what it does as soon as the clock may be believed.
#[test]
fn steps_wait_for_a_clock_that_is_believed() {
    let (_dir, state) = filled();
    let record = state.roots().rotation().unwrap();
    let state: Arc<dyn CaStorage> = Arc::new(state);
    let mut rotator = Rotator::new(Arc::clone(&state), usual(), true, record.clone());
    let latest_expiry = LatestExpiry::default();
    let wall = now() + Duration::days(3649);
    let mut look = |is_believed, may_step, hours: u64| {
        let running = std::time::Duration::from_secs(hours * 3600);
        let moment = Moment { now: Reading { wall, running }, is_believed, may_step };
        rotator.look(&latest_expiry, false, moment).unwrap();
        RootFiles::of(&*state).rotation().unwrap()
    };
    assert_eq!(look(false, false, 0), record);
    assert_eq!(look(true, false, 0), record);
    let Phase::Prepared { .. } = look(true, true, 0).phase() else { panic!("one step at a time") };
    let Phase::Prepared { .. } = look(true, false, 0).phase() else { panic!("the next one waits") };
}

/// A server lets go of the key of a root that retired by itself when it has run for 30 days.
#[test]
fn a_key_that_is_kept_goes_after_thirty_days_of_running() {
    let (_dir, state) = filled();
    for step in [Step::Prepare, Step::Publish, Step::Activate] {
        take(&state, step).unwrap();
    }
    let retired = state.roots().rotation().unwrap().advance_by_itself(Step::Retire, now()).unwrap();
    state.roots().save_rotation(&retired).unwrap();
    assert!(exists(&state, "ca-key.pem"));
    let path = state.path().to_owned();
    let there = || path.join("ca-key.pem").exists();
    let state: Arc<dyn CaStorage> = Arc::new(state);
    let mut rotator = Rotator::new(state, usual(), true, retired);
    let latest_expiry = LatestExpiry::default();
    let mut run = |hours: u64| {
        let now = Reading { wall: now(), running: std::time::Duration::from_secs(hours * 3600) };
        rotator.look(&latest_expiry, false, Moment { now, is_believed: false, may_step: false }).unwrap();
    };
    (1..=719).for_each(&mut run);
    assert!(there());
    run(720);
    assert!(!there());
}

/// A crash before or after the record was replaced, at every step: the next start has one signer and a bundle with all
/// roots that it needs, and the step can be taken again or goes on.
#[test]
fn crashes_in_the_middle_of_a_step() {
    let (_dir, state) = filled();
    let files = |names: &[&str]| names.iter().all(|name| exists(&state, name));
    let restart = || state.load_or_create(&usual(), now()).unwrap();

    // Key and certificate of a next root that is on no record.
    fs::write(state.path().join("ca-2-key.pem"), "half").unwrap();
    restart();
    take(&state, Step::Prepare).unwrap();
    assert!(files(&["ca-2-key.pem", "ca-2-cert.pem", "rotation.json"]));

    // The record says published, and the trust anchor was not written.
    let anchor = fs::read_to_string(state.root_cert_path()).unwrap();
    take(&state, Step::Publish).unwrap();
    fs::write(state.root_cert_path(), anchor).unwrap();
    restart();
    assert_eq!(bundle(&state), 2);

    // The record says retired, and the key was not destroyed.
    take(&state, Step::Activate).unwrap();
    let key = fs::read(state.path().join("ca-key.pem")).unwrap();
    take(&state, Step::Retire).unwrap();
    fs::write(state.path().join("ca-key.pem"), key).unwrap();
    restart();
    assert_eq!(bundle(&state), 1);
    assert_eq!(state.roots().rotation().unwrap().active().generation, 2);
    take(&state, Step::Prepare).unwrap();
    for step in [Step::Publish, Step::Activate, Step::Retire] {
        take(&state, step).unwrap();
    }
    assert!(!exists(&state, "ca-key.pem"), "the next retirement takes it along");
}

#[test]
fn a_damaged_record_is_refused_and_not_replaced() {
    let (_dir, state) = filled();
    take(&state, Step::Prepare).unwrap();
    let record = state.path().join("rotation.json");
    let whole = fs::read(&record).unwrap();
    for length in [0, 1, whole.len() / 2] {
        fs::write(&record, &whole[..length]).unwrap();
        let said = state.load_or_create(&usual(), now()).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("rotation.json") && said.contains("restore it from a backup"), "{said}");
        assert!(take(&state, Step::Publish).is_err());
        assert_eq!(fs::read(&record).unwrap(), &whole[..length]);
    }
    fs::write(&record, &whole).unwrap();
    take(&state, Step::Publish).unwrap();
    fs::remove_file(state.path().join("ca-2-cert.pem")).unwrap();
    let said = state.load(now()).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("ca-2-cert.pem"), "{said}");
}

#[test]
fn there_must_be_a_ca() {
    let dir = tempfile::tempdir().unwrap();
    let absent = |dir: &Path| manual_rotation::view(dir, now()).unwrap_err().to_string();
    assert!(absent(&dir.path().join("none")).contains("eastwest ca init"));
    let empty = StateDir::open(&dir.path().join("empty")).unwrap();
    assert!(absent(empty.path()).contains("eastwest ca init"));
}
