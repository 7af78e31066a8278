//! What is refused, and that nothing is replaced.

use std::{os::unix::fs::PermissionsExt as _, sync::Barrier, thread};

use eastwest_identity::TrustDomain;

use super::*;

fn usual() -> NewRoot {
    NewRoot::of(TrustDomain::parse("cluster.local").unwrap())
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A directory with a CA in it.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
    (dir, path)
}

/// What the next start says.
fn refusal(path: &Path, now: OffsetDateTime) -> String {
    let result = StateDir::open(path).and_then(|state| state.load_or_create(&usual(), now));
    result.map(|_| ()).unwrap_err().to_string()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn first_start_creates_and_the_second_finds() {
    let (_dir, path) = filled();
    let modes = |name: &str| files::mode(&path.join(name)).unwrap();
    assert_eq!(files::mode(&path).unwrap(), 0o700);
    assert_eq!([CA_KEY, TOKEN_KEY].map(modes), [0o600, 0o600]);
    assert_eq!([ROOTS, CA_CERTIFICATE, TOKEN_JWKS].map(modes), [0o644, 0o644, 0o644]);
    let read = |name: &str| fs::read(path.join(name)).unwrap();
    let all = [CA_KEY, CA_CERTIFICATE, ROOTS, TOKEN_KEY, TOKEN_JWKS];
    let before = all.map(read);
    StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
    assert_eq!(all.map(read), before);
    assert_eq!(read(ROOTS), read(CA_CERTIFICATE));
}

#[test]
fn permissions_for_others_are_refused() {
    let (_dir, path) = filled();
    for (name, mode) in [("", 0o755), ("", 0o710), (CA_KEY, 0o640), (CA_KEY, 0o604), (TOKEN_KEY, 0o644)] {
        let file = if name.is_empty() { path.clone() } else { path.join(name) };
        let good = files::mode(&file).unwrap();
        chmod(&file, mode);
        let said = refusal(&path, now());
        assert!(said.contains(&format!("chmod {good:03o} {}", file.display())), "{said}");
        chmod(&file, good);
    }
    StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
}

#[test]
fn half_written_files_are_refused() {
    for name in [CA_KEY, CA_CERTIFICATE, TOKEN_KEY] {
        let (_dir, path) = filled();
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        for length in [0, 1, 30, whole.len() / 2, whole.len() - 10] {
            fs::write(&file, &whole[..length]).unwrap();
            let said = refusal(&path, now());
            assert!(said.contains(name) && said.contains("restore it from a backup"), "{length}: {said}");
            assert_eq!(fs::read(&file).unwrap(), &whole[..length], "nothing is replaced");
        }
        fs::write(&file, &whole).unwrap();
        StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
    }
}

#[test]
fn a_mismatched_pair_is_refused() {
    let ((_a, one), (_b, two)) = (filled(), filled());
    fs::copy(two.join(CA_KEY), one.join(CA_KEY)).unwrap();
    let said = refusal(&one, now());
    assert!(
        said.contains(CA_KEY) && said.contains(CA_CERTIFICATE) && said.contains("does not belong"),
        "{said}"
    );
}

#[test]
fn an_expired_root_is_refused() {
    let (_dir, path) = filled();
    let said = refusal(&path, now() + time::Duration::days(4000));
    assert!(said.contains(CA_CERTIFICATE) && said.contains("has run out at"), "{said}");
}

#[test]
fn missing_files_are_refused() {
    for (gone, missing) in [(CA_KEY, CA_KEY), (CA_CERTIFICATE, CA_CERTIFICATE)] {
        let (_dir, path) = filled();
        fs::remove_file(path.join(gone)).unwrap();
        let said = refusal(&path, now());
        assert!(said.contains(missing) && said.contains("is missing although"), "{said}");
        assert!(!path.join(gone).exists(), "nothing is made anew");
    }
}

/// A crash between key and certificate: the trust anchor was never written.
#[test]
fn an_interrupted_first_start_is_finished() {
    let (_dir, path) = filled();
    let key = fs::read(path.join(CA_KEY)).unwrap();
    fs::remove_file(path.join(CA_CERTIFICATE)).unwrap();
    fs::remove_file(path.join(ROOTS)).unwrap();
    StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
    assert_eq!(fs::read(path.join(CA_KEY)).unwrap(), key);
}

#[test]
fn the_trust_anchor_is_written_again() {
    let (_dir, path) = filled();
    let roots = fs::read(path.join(ROOTS)).unwrap();
    fs::write(path.join(ROOTS), "half").unwrap();
    StateDir::open(&path).unwrap().load_or_create(&usual(), now()).unwrap();
    assert_eq!(fs::read(path.join(ROOTS)).unwrap(), roots);
}

#[test]
fn one_server_at_a_time() {
    let (_dir, path) = filled();
    let state = StateDir::open(&path).unwrap();
    let lock = state.lock().unwrap();
    assert!(matches!(state.lock(), Err(StateError::Locked(_))));
    assert!(state.token_key().is_ok(), "tokens are minted beside a running server");
    drop(lock);
    assert!(state.lock().is_ok());
}

#[test]
fn many_at_once_agree_on_one_token_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let barrier = Barrier::new(8);
    let key = || {
        barrier.wait();
        StateDir::open(&path).unwrap().token_key().unwrap().id().to_owned()
    };
    let keys: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(key)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(StateDir::open(&file).is_err());
    let absent = dir.path().join("absent");
    assert!(matches!(StateDir::open_existing(&absent), Err(StateError::NoCa(_))));
    assert!(!absent.exists());
}
