//! Starts the workload's command, forwards signals, restarts it after a crash, drains and ends it.
//!
//! | event | what happens |
//! |---|---|
//! | the command ends with 0 | the agent ends with 0 |
//! | it ends otherwise, unasked | it is started again after 1 s, then 2 s, … 30 s; a run of 30 s starts over |
//! | SIGHUP, SIGUSR1, SIGUSR2 | forwarded |
//! | the agent is asked to end | Envoy drains for `--drain-time`, SIGTERM, after `--stop-time` SIGKILL |
//! | it is asked again | SIGKILL |
//!
//! The command gets a process group of its own: a Ctrl-C in the terminal reaches the agent alone, which then
//! ends the command in order, and what the command left behind is killed with it.

use std::{
    convert::Infallible,
    ffi::OsString,
    future::pending,
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
    time::{sleep, timeout},
};

use crate::{envoy::admin::EnvoyAdmin, shutdown::Shutdown};

/// First pause before a restart; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A run of this length counts as a good one: the next pause is the first again.
const GOOD_RUN: Duration = Duration::from_secs(30);
/// Switches off Envoy's hot restart, with which it ends when the *thread* that started it ends.
const DISABLE_HOT_RESTART: &str = "--disable-hot-restart";

/// The command cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?}: {source}; is it installed and on the PATH?")]
pub struct SpawnError {
    program: OsString,
    source: io::Error,
}

/// Runs one command.
pub(crate) struct Supervisor {
    /// Program and arguments; not empty.
    pub(crate) command: Vec<OsString>,
    /// Where the command finds the Workload API, as `unix:PATH`.
    pub(crate) workload_api: String,
    /// Asked to drain before the command ends.
    pub(crate) envoy: Option<EnvoyAdmin>,
    pub(crate) drain_time: Duration,
    pub(crate) stop_time: Duration,
}

impl Supervisor {
    /// Runs the command until it ends well or `shutdown` is requested; answers its exit code, 128 and the
    /// signal's number if a signal ended it.
    ///
    /// # Errors
    /// When it cannot be started the first time.
    pub(crate) async fn run(&self, shutdown: &Shutdown) -> Result<u8, SpawnError> {
        let mut crashes = 0;
        let mut running = self.start()?;
        loop {
            let started = Instant::now();
            let code = tokio::select! {
                code = running.end() => code,
                () = shutdown.requested.cancelled() => return Ok(self.stop(running, shutdown).await),
            };
            if code == 0 {
                tracing::info!("the command has ended");
                return Ok(0);
            }
            crashes = if started.elapsed() >= GOOD_RUN { 1 } else { crashes + 1 };
            let pause = restart_pause(crashes);
            // What the crash left behind could hold the ports that its successor needs.
            running.signal_group(Signal::SIGKILL);
            tracing::error!(code, "the command has ended unasked; it is started again in {pause:?}");
            running = tokio::select! {
                running = self.restart(pause) => running,
                () = shutdown.requested.cancelled() => return Ok(code),
            };
        }
    }

    fn start(&self) -> Result<Running, SpawnError> {
        let failed = |source| SpawnError { program: self.command[0].clone(), source };
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).process_group(0).kill_on_drop(true);
        // The name by which SPIFFE client libraries know it (SPIFFE Workload Endpoint §4).
        command.env("SPIFFE_ENDPOINT_SOCKET", &self.workload_api);
        let child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
        let group = group.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Running { child, group })
    }

    async fn restart(&self, pause: Duration) -> Running {
        loop {
            sleep(pause).await;
            match self.start() {
                Ok(running) => return running,
                Err(error) => tracing::error!("{error}; next attempt in {pause:?}"),
            }
        }
    }

    /// Drains, asks, and in the end kills.
    async fn stop(&self, mut running: Running, shutdown: &Shutdown) -> u8 {
        let code = tokio::select! {
            code = self.stop_gracefully(&mut running) => code,
            () = shutdown.forced.cancelled() => None,
        };
        // Also what the command left behind in its group.
        running.signal_group(Signal::SIGKILL);
        match code {
            Some(code) => code,
            None => running.end().await,
        }
    }

    /// The exit code, or `None` when it did not end in time.
    async fn stop_gracefully(&self, running: &mut Running) -> Option<u8> {
        if let Some(envoy) = self.envoy
            && envoy.drain_inbound().await.is_ok()
        {
            tracing::info!("Envoy drains its inbound listeners for {:?}", self.drain_time);
            if let Ok(code) = timeout(self.drain_time, running.end()).await {
                return Some(code);
            }
        }
        running.signal(Signal::SIGTERM);
        let code = timeout(self.stop_time, running.end()).await.ok();
        if code.is_none() {
            tracing::warn!("the command did not end within {:?}; it is killed", self.stop_time);
        }
        code
    }
}

/// The command at work, in a process group that has the number of its process.
struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// Waits for its end, forwarding signals meanwhile; answers the exit code.
    async fn end(&mut self) -> u8 {
        let process = self.group;
        let forwarding = async {
            tokio::join!(
                forward(process, Signal::SIGHUP),
                forward(process, Signal::SIGUSR1),
                forward(process, Signal::SIGUSR2)
            )
        };
        tokio::select! {
            ended = self.child.wait() => match ended {
                Ok(status) => exit_code(status),
                Err(error) => {
                    tracing::error!("cannot learn how the command ended: {error}");
                    1
                }
            },
            (never, ..) = forwarding => match never {},
        }
    }

    /// Signals its process, unless that has ended: then it would not be there, or be another one.
    fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            send(self.group, signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        // ESRCH: nobody is left, which is what we want.
        let _ = killpg(self.group, signal);
    }
}

/// Passes every `signal` that the agent gets on to `process`.
async fn forward(process: Pid, signal: Signal) -> Infallible {
    if let Ok(mut signals) = unix::signal(SignalKind::from_raw(signal as i32)) {
        while signals.recv().await.is_some() {
            send(process, signal);
        }
    }
    pending().await
}

fn send(process: Pid, signal: Signal) {
    if let Err(error) = kill(process, signal) {
        tracing::warn!("cannot send {signal} to the command: {error}");
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn restart_pause(crashes: u32) -> Duration {
    (FIRST_PAUSE * 2u32.pow(crashes.saturating_sub(1).min(10))).min(LONGEST_PAUSE)
}

/// Whether `command` starts Envoy, directly or through a wrapper (`setpriv … envoy -c …`): a word that is
/// called `envoy` comes first or is followed by an option.
pub(crate) fn starts_envoy(command: &[OsString]) -> bool {
    command.iter().enumerate().any(|(at, word)| {
        let option_follows =
            || command.get(at + 1).is_some_and(|next| next.to_string_lossy().starts_with('-'));
        Path::new(word).file_name().is_some_and(|name| name == "envoy") && (at == 0 || option_follows())
    })
}

/// `command`, with Envoy's hot restart switched off if it starts Envoy.
pub(crate) fn without_hot_restart(mut command: Vec<OsString>) -> Vec<OsString> {
    if starts_envoy(&command) && !command.iter().any(|word| word == DISABLE_HOT_RESTART) {
        tracing::info!("{DISABLE_HOT_RESTART} is added to the command");
        command.push(DISABLE_HOT_RESTART.into());
    }
    command
}

#[cfg(test)]
mod tests;
