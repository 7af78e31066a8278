//! What the command line does with a state directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use eastwest_ca::{Lifetimes, NewRoot};
use eastwest_ca_server::{StateDir, StateError, operations};
use eastwest_identity::TrustDomain;
use time::OffsetDateTime;

#[test]
fn init_show_bundle_issue_token() {
    let (dir, now) = (tempfile::tempdir().unwrap(), OffsetDateTime::now_utc());
    let state = dir.path().join("state");
    assert!(matches!(operations::show(&state, now), Err(StateError::NoCa(_))));
    let new = NewRoot::of(TrustDomain::parse("cluster.local").unwrap());

    // Before there is a CA, a token would be one that no server knows.
    let token = || operations::token(&state, "shop", "reviews", "istio-ca", Duration::from_secs(60), now);
    let early = token().unwrap_err().to_string();
    assert!(early.contains("no CA in this directory") && early.contains("eastwest ca init"), "{early}");
    assert!(!state.exists(), "nothing is made");
    fs::create_dir(&state).unwrap();
    assert!(token().is_err() && fs::read_dir(&state).unwrap().next().is_none(), "nor in an empty directory");
    assert!(matches!(operations::bundle(&state, now), Err(StateError::NoCa(_))));
    let summary = operations::init(&state, &new, None, now).unwrap();
    assert_eq!(token().unwrap().split('.').count(), 3);
    assert_eq!(operations::init(&state, &new, None, now).unwrap(), summary, "nothing is made anew");
    assert_eq!(operations::show(&state, now).unwrap(), summary);
    assert_eq!(summary.roots[0].subject, "O=cluster.local");
    assert_eq!(summary.roots[0].key, "ECDSA P-256");
    assert!(serde_json::to_string(&summary).unwrap().contains("not_after"));
    assert_eq!(
        operations::bundle(&state, now).unwrap(),
        fs::read_to_string(state.join("root-cert.pem")).unwrap()
    );

    let identity = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
    let issued = operations::issue(&state, (&identity, Vec::new()), None, Lifetimes::default(), now).unwrap();
    let out = dir.path().join("out");
    let [chain, key, roots] = issued.write(&out).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(chain).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(fs::read_to_string(roots).unwrap(), operations::bundle(&state, now).unwrap());
    let long = Some(Duration::from_secs(91 * 24 * 3600));
    let refused = operations::issue(&state, (&identity, Vec::new()), long, Lifetimes::default(), now);
    assert!(refused.err().is_some_and(|error| error.to_string().contains("maximum")));
    let domain_only = operations::issue(
        &state,
        (&"spiffe://td".parse().unwrap(), Vec::new()),
        None,
        Lifetimes::default(),
        now,
    );
    assert!(domain_only.is_err(), "no certificate for a trust domain as such");
}

#[test]
fn init_stays_away_from_a_running_server() {
    let (dir, now) = (tempfile::tempdir().unwrap(), OffsetDateTime::now_utc());
    let state = dir.path().join("state");
    let new = NewRoot::of(TrustDomain::parse("cluster.local").unwrap());
    let _lock = StateDir::open(&state).unwrap().lock().unwrap();
    let refused = operations::init(&state, &new, None, now).unwrap_err().to_string();
    assert!(refused.contains("another eastwest uses this state directory"), "{refused}");
}

/// The state of a CA of `domain` in a new directory.
fn ca_of(domain: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let new = NewRoot::of(TrustDomain::parse(domain).unwrap());
    operations::init(&state, &new, None, OffsetDateTime::now_utc()).unwrap();
    (dir, state)
}

#[test]
fn a_ca_signs_and_keeps_its_own_trust_domain() {
    let ((_dir, state), now) = (ca_of("one.example"), OffsetDateTime::now_utc());
    let issue = |identity: &str| {
        let identity = identity.parse().unwrap();
        operations::issue(&state, (&identity, Vec::new()), None, Lifetimes::default(), now)
    };
    let refused = issue("spiffe://evil.example/ns/a/sa/b").map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("in the trust domain one.example"), "{refused}");
    issue("spiffe://one.example/ns/a/sa/b").unwrap();

    let before = fs::read(state.join("root-cert.pem")).unwrap();
    let new = NewRoot::of(TrustDomain::parse("two.example").unwrap());
    let refused = operations::init(&state, &new, None, now).unwrap_err().to_string();
    for said in ["there is a CA already", "--trust-domain one.example", "another --state-dir"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(fs::read(state.join("root-cert.pem")).unwrap(), before);
}

/// The anchor on file is that of a CA whose key is elsewhere, with or without a root of our own from before.
#[test]
fn a_plugged_in_ca_does_not_sign_here() {
    let ((_dir, state), now) = (ca_of("one.example"), OffsetDateTime::now_utc());
    let (_other_dir, other) = ca_of("one.example");
    fs::copy(other.join("root-cert.pem"), state.join("root-cert.pem")).unwrap();
    let identity = "spiffe://one.example/ns/a/sa/b".parse().unwrap();
    let issue = || operations::issue(&state, (&identity, Vec::new()), None, Lifetimes::default(), now);
    for lost in [None, Some(["ca-key.pem", "ca-cert.pem"])] {
        lost.into_iter().flatten().for_each(|name| fs::remove_file(state.join(name)).unwrap());
        let refused = issue().map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("is plugged in") && refused.contains("--server HOST:PORT"), "{refused}");
    }
}

#[test]
fn a_file_is_no_state_directory() {
    let (dir, now) = (tempfile::tempdir().unwrap(), OffsetDateTime::now_utc());
    let file = dir.path().join("state");
    fs::write(&file, "").unwrap();
    let new = NewRoot::of(TrustDomain::parse("cluster.local").unwrap());
    for refused in [operations::init(&file, &new, None, now), operations::show(&file, now)] {
        assert!(matches!(&refused, Err(StateError::NotADirectory(path)) if *path == file), "{refused:?}");
    }
}
