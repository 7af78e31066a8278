//! The file system as it is: every wait is for a batch, never for a time.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Instant};

use eastwest_manifest::merge::Merge;
use eastwest_model::{Change, TrustDomain};
use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::Loaded;

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system")
}

/// A follower that depends on events.
fn follower(folder: &Path) -> Follower {
    let mut follower = Follower::open(SourceId::new("directory"), folder, defaults()).unwrap();
    follower.rescan = Duration::from_secs(3600);
    follower
}

struct Followed {
    folder: TempDir,
    batches: Receiver<Batch>,
    merge: Merge,
}

impl Followed {
    async fn start(files: &[(&str, &str)]) -> (Self, Loaded) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let follower = follower(folder.path());
        let mut followed = Self::new(folder, follower);
        let first = followed.next().await;
        (followed, first)
    }

    fn new(folder: TempDir, follower: Follower) -> Self {
        let (sender, batches) = channel(1);
        follower.start(sender).unwrap();
        Self { folder, batches, merge: Merge::default() }
    }

    async fn next(&mut self) -> Loaded {
        let batch = tokio::time::timeout(Duration::from_secs(20), self.batches.recv()).await;
        let effect = self.merge.apply(batch.expect("a batch comes in time").expect("the follower lives"));
        Loaded { changes: effect.changes, diagnostics: self.merge.diagnostics().to_vec() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As editors and configuration tools do it.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.at(".tmp"), text).unwrap();
        fs::rename(self.at(".tmp"), self.at(name)).unwrap();
    }
}

fn namespace(name: &str, label: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{l: {label}}}}}}}\n")
}

fn show(batch: &Loaded) -> Vec<String> {
    let changes = batch.changes.iter().map(|change| match change {
        Change::Upsert(object) => format!("+{} {}", object.meta().name(), object.meta().labels["l"]),
        Change::Delete(reference) => format!("-{}", reference.name),
    });
    changes.chain(batch.diagnostics.iter().map(|d| format!("!{}", d.object))).collect()
}

#[tokio::test]
async fn files_are_written_replaced_and_removed() {
    let (mut followed, first) = Followed::start(&[("a.yaml", &namespace("a", "one"))]).await;
    assert_eq!(show(&first), ["+a one"]);
    followed.replace("a.yaml", &namespace("a", "two"));
    assert_eq!(show(&followed.next().await), ["+a two"]);
    fs::write(followed.at("b.yaml"), namespace("b", "one")).unwrap();
    assert_eq!(show(&followed.next().await), ["+b one"]);
    fs::remove_file(followed.at("a.yaml")).unwrap();
    assert_eq!(show(&followed.next().await), ["-a"]);
}

/// The directory is never quiet here, so only what is taken in at once comes.
#[tokio::test]
async fn a_replaced_file_is_taken_in_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["a.yaml", "sub/b.yaml"] {
        fs::write(folder.path().join(name), namespace("a", "one")).unwrap();
    }
    let mut follower = follower(folder.path());
    follower.debounce = Debounce { quiet: Duration::from_secs(3600), limit: Duration::from_secs(3600) };
    let mut followed = Followed::new(folder, follower);
    assert_eq!(show(&followed.next().await), ["+a one"]);
    followed.replace("a.yaml", &namespace("a", "two"));
    assert_eq!(show(&followed.next().await), ["+a two", "!Namespace/a"]);
    followed.replace("sub/b.yaml", &namespace("a", "two"));
    assert_eq!(show(&followed.next().await), [""; 0]);
    fs::write(followed.at("a.yaml"), namespace("a", "three") + "---\n" + &namespace("b", "three")).unwrap();
    assert_eq!(show(&followed.next().await), ["+a three", "+b three", "!Namespace/a"]);
}

/// A file that loses an object waits, for the object may be on its way to another file.
#[tokio::test]
async fn an_object_that_moves_to_another_file_is_never_gone() {
    let both = namespace("a", "one") + "---\n" + &namespace("b", "one");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), &both).unwrap();
    fs::write(folder.path().join("b.yaml"), namespace("c", "one")).unwrap();
    let mut follower = follower(folder.path());
    // Longer than the two files of a move are apart, on any machine.
    follower.debounce = Debounce { quiet: Duration::from_secs(1), limit: Duration::from_secs(60) };
    let mut followed = Followed::new(folder, follower);
    followed.next().await;
    for round in 0..6 {
        let (from, to) = if round % 2 == 0 { ("a.yaml", "b.yaml") } else { ("b.yaml", "a.yaml") };
        let text = |kept: &str, more: &str| namespace(kept, "one") + more;
        let (without, with) = if round % 2 == 0 { ("a", "c") } else { ("c", "a") };
        followed.replace(from, &text(without, ""));
        followed.replace(to, &text(with, &("---\n".to_owned() + &namespace("b", &format!("r{round}")))));
        loop {
            let shown = show(&followed.next().await);
            assert!(shown.iter().all(|one| !one.starts_with('-')), "round {round}: {shown:?}");
            if shown.contains(&format!("+b r{round}")) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_empty_directory_is_a_first_batch_too() {
    let (mut followed, first) = Followed::start(&[]).await;
    assert_eq!(first, Loaded::default());
    fs::create_dir_all(followed.at("sub/sub")).unwrap();
    fs::write(followed.at("sub/sub/a.yaml"), namespace("a", "one")).unwrap();
    assert_eq!(show(&followed.next().await), ["+a one"]);
    // The new folder is watched as well.
    fs::write(followed.at("sub/sub/a.yaml"), namespace("a", "two")).unwrap();
    assert_eq!(show(&followed.next().await), ["+a two"]);
    fs::remove_dir_all(followed.at("sub")).unwrap();
    assert_eq!(show(&followed.next().await), ["-a"]);
}

#[tokio::test]
async fn a_broken_file_is_reported_until_it_is_corrected() {
    let (mut followed, _) = Followed::start(&[("a.yaml", &namespace("a", "one"))]).await;
    followed.replace("a.yaml", "kind: [");
    assert_eq!(show(&followed.next().await), ["!a.yaml"]);
    followed.replace("a.yaml", &namespace("a", "one"));
    assert_eq!(show(&followed.next().await), [""; 0]);
}

#[tokio::test]
async fn a_file_being_written_does_not_flap() {
    let (mut followed, _) = Followed::start(&[("a.yaml", &namespace("a", "one"))]).await;
    for text in ["", "{apiVersion: v1, kind: Name", &namespace("a", "two")] {
        fs::write(followed.at("a.yaml"), text).unwrap();
    }
    // A slow machine may show the broken text for a moment, but the object is never gone.
    loop {
        let batch = followed.next().await;
        if !batch.changes.is_empty() {
            return assert_eq!(show(&batch), ["+a two"]);
        }
    }
}

#[tokio::test]
async fn an_emptied_file_goes_when_it_stays_empty() {
    let (mut followed, _) = Followed::start(&[("a.yaml", &namespace("a", "one"))]).await;
    let emptied = Instant::now();
    fs::write(followed.at("a.yaml"), "").unwrap();
    assert_eq!(show(&followed.next().await), ["-a"]);
    // File times are coarser than the clock by some milliseconds.
    assert!(emptied.elapsed() + Duration::from_millis(50) >= FRESH, "after {:?}", emptied.elapsed());
}

#[tokio::test]
async fn a_config_map_volume_is_swapped_at_once() {
    let (mut followed, _) = Followed::start(&[]).await;
    let volume = followed.at(".volume");
    for (version, label) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir_all(volume.join(version)).unwrap();
        fs::write(volume.join(version).join("a.yaml"), namespace("a", label)).unwrap();
        fs::write(volume.join(version).join("b.yaml"), namespace("b", label)).unwrap();
    }
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/a.yaml", volume.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", volume.join("b.yaml")).unwrap();
    let visible = followed.at("volume");
    fs::rename(volume, &visible).unwrap();
    assert_eq!(show(&followed.next().await), ["+a one", "+b one"]);
    symlink("..2", visible.join("..data_tmp")).unwrap();
    fs::rename(visible.join("..data_tmp"), visible.join("..data")).unwrap();
    assert_eq!(show(&followed.next().await), ["+a two", "+b two"]);
}

#[tokio::test]
async fn a_directory_that_vanishes_and_returns() {
    let (mut followed, _) = Followed::start(&[("a.yaml", &namespace("a", "one"))]).await;
    // An event from the folder proves that it is watched.
    followed.replace("a.yaml", &namespace("a", "two"));
    assert_eq!(show(&followed.next().await), ["+a two"]);
    let spare = tempfile::tempdir().unwrap();
    fs::rename(followed.folder.path(), spare.path().join("old")).unwrap();
    assert_eq!(show(&followed.next().await), ["!."]);
    fs::create_dir(spare.path().join("new")).unwrap();
    fs::write(spare.path().join("new/b.yaml"), namespace("b", "one")).unwrap();
    fs::rename(spare.path().join("new"), followed.folder.path()).unwrap();
    assert_eq!(show(&followed.next().await), ["-a", "+b one"]);
    // The folder of the same name is another one, and watched in its turn.
    followed.replace("b.yaml", &namespace("b", "two"));
    assert_eq!(show(&followed.next().await), ["+b two"]);
}

#[tokio::test]
async fn without_events_the_directory_is_looked_at_every_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = follower(folder.path());
    follower.watch = FolderWatch::without_events(DEBOUNCE);
    let mut followed = Followed::new(folder, follower);
    assert_eq!(show(&followed.next().await), [""; 0]);
    followed.replace("a.yaml", &namespace("a", "one"));
    assert_eq!(show(&followed.next().await), ["+a one"]);
}

#[test]
fn dropping_the_receiver_ends_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let follower = follower(folder.path());
    let (sender, mut receiver) = channel(1);
    let thread = thread::spawn(move || follower.run(&sender));
    let first = Batch { source: SourceId::new("directory"), updates: Vec::new() };
    assert_eq!(receiver.blocking_recv(), Some(first));
    drop(receiver);
    fs::write(folder.path().join("a.yaml"), "").unwrap();
    thread.join().unwrap();
}

#[test]
fn a_missing_directory_is_an_error_at_the_start() {
    let (sender, _receiver) = channel::<Batch>(1);
    let error = follow(SourceId::new("directory"), Path::new("/no/such"), defaults(), sender).unwrap_err();
    assert!(error.to_string().contains("/no/such"));
}
