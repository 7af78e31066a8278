use std::{fs, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::tests::SIGNALS;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs `script` in a shell whose `$1` is a directory that the test may look into.
fn shell(script: &str, dir: &TempDir) -> Supervisor {
    let words = ["sh", "-c", script, "sh", dir.path().to_str().unwrap()];
    Supervisor {
        command: words.map(OsString::from).to_vec(),
        workload_api: "unix:/run/sds.sock".into(),
        launcher: Vec::new(),
        envoy: None,
        drain_time: Duration::ZERO,
        stop_time: Duration::from_secs(5),
    }
}

/// Waits until `name` exists in `dir`, and answers its content.
async fn appears(dir: &TempDir, name: &str) -> String {
    let path = dir.path().join(name);
    let waiting = async {
        loop {
            match fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("no {name} in time"))
}

/// Starts it, requests the end once `up` is there, and answers the exit code.
async fn run_until_up(supervisor: Supervisor, dir: &TempDir) -> u8 {
    let _undisturbed = SIGNALS.read().await;
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    let running = tokio::spawn(async move { supervisor.run(&shutdown).await.unwrap() });
    appears(dir, "up").await;
    asked.requested.cancel();
    timeout(LIMIT, running).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_command_finds_the_workload_api() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'exit 0' TERM; echo $SPIFFE_ENDPOINT_SOCKET > $1/up; while :; do sleep 0.02; done";
    assert_eq!(run_until_up(shell(script, &dir), &dir).await, 0);
    assert_eq!(appears(&dir, "up").await, "unix:/run/sds.sock\n");
}

#[tokio::test]
async fn a_command_that_ends_well_ends_the_agent_well() {
    let _undisturbed = SIGNALS.read().await;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(shell("exit 0", &dir).run(&Shutdown::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_crash_is_cleaned_up_and_answered_with_a_restart_after_a_second() {
    let _undisturbed = SIGNALS.read().await;
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let script = "test -e $1/orphan && exit 0; sleep 30 & echo $! > $1/orphan; exit 3";
    assert_eq!(timeout(LIMIT, shell(script, &dir).run(&Shutdown::new())).await.unwrap().unwrap(), 0);
    assert!(started.elapsed() >= FIRST_PAUSE);
    orphan_is_gone(&dir).await;
}

#[tokio::test]
async fn asked_to_end_it_passes_sigterm_on_and_answers_the_commands_code() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'exit 7' TERM; echo x > $1/up; while :; do sleep 0.02; done";
    assert_eq!(run_until_up(shell(script, &dir), &dir).await, 7);
}

#[tokio::test]
async fn a_command_without_a_handler_ends_by_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run_until_up(shell("echo x > $1/up; exec sleep 60", &dir), &dir).await, 128 + 15);
}

#[tokio::test]
async fn a_deaf_command_is_killed_after_the_stop_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; echo x > $1/up; while :; do sleep 0.02; done";
    let supervisor = Supervisor { stop_time: Duration::from_millis(200), ..shell(script, &dir) };
    assert_eq!(run_until_up(supervisor, &dir).await, 128 + 9);
}

#[tokio::test]
async fn a_second_request_kills_at_once() {
    let _undisturbed = SIGNALS.read().await;
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor {
        stop_time: Duration::from_secs(600),
        ..shell("trap 'echo x > $1/asked' TERM; echo x > $1/up; while :; do sleep 0.02; done", &dir)
    };
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    let running = tokio::spawn(async move { supervisor.run(&shutdown).await.unwrap() });
    appears(&dir, "up").await;
    asked.requested.cancel();
    appears(&dir, "asked").await;
    asked.forced.cancel();
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), 128 + 9);
}

#[tokio::test]
async fn what_the_command_left_behind_is_ended_too() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "sleep 30 & echo $! > $1/orphan; trap 'exit 0' TERM; echo x > $1/up; while :; do sleep 0.02; done";
    assert_eq!(run_until_up(shell(script, &dir), &dir).await, 0);
    orphan_is_gone(&dir).await;
}

/// Waits for the end of the process that the file `orphan` names.
async fn orphan_is_gone(dir: &TempDir) {
    let orphan = appears(dir, "orphan").await;
    let gone = async {
        let stat = format!("/proc/{}/stat", orphan.trim());
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("the orphan is gone");
}

#[tokio::test]
async fn sighup_is_forwarded() {
    let _alone = SIGNALS.write().await;
    let dir = tempfile::tempdir().unwrap();
    let script =
        "trap 'echo x > $1/hup' HUP; trap 'exit 0' TERM; echo x > $1/up; while :; do sleep 0.02; done";
    let (supervisor, shutdown) = (shell(script, &dir), Shutdown::new());
    let asked = shutdown.clone();
    let running = tokio::spawn(async move { supervisor.run(&shutdown).await.unwrap() });
    appears(&dir, "up").await;
    kill(Pid::this(), Signal::SIGHUP).unwrap();
    appears(&dir, "hup").await;
    asked.requested.cancel();
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor { command: vec!["no-such-program".into()], ..shell("", &dir) };
    let error = supervisor.run(&Shutdown::new()).await.unwrap_err().to_string();
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn pauses_between_restarts_double_up_to_thirty_seconds() {
    let pauses = [1, 2, 3, 5, 6, 100].map(|crashes| restart_pause(crashes).as_secs());
    assert_eq!(pauses, [1, 2, 4, 16, 30, 30]);
}

#[test]
fn envoy_is_recognized_and_loses_hot_restart() {
    let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
    for command in ["envoy", "/usr/local/bin/envoy -c x", "setpriv --reuid 1337 envoy -c x"] {
        assert!(starts_envoy(&words(command)), "{command}");
        assert_eq!(without_hot_restart(words(command)).last().unwrap(), DISABLE_HOT_RESTART);
    }
    for command in ["ls /etc/envoy", "sh -c true", "envoy-wrapper -c x"] {
        assert!(!starts_envoy(&words(command)), "{command}");
        assert_eq!(without_hot_restart(words(command)), words(command));
    }
    let already = words("envoy --disable-hot-restart -c x");
    assert_eq!(without_hot_restart(already.clone()), already);
}
