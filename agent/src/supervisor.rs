//! Starts the workload's command, forwards signals, restarts it after a crash, drains and stops it.
//!
//! | event | what happens |
//! |---|---|
//! | the command ends with 0 | the agent ends with 0 |
//! | it ends otherwise | it is started again after 1 s, then 2 s, … 30 s; a run of 30 s starts over |
//! | SIGHUP, SIGUSR1, SIGUSR2 | forwarded |
//! | the agent is killed | the kernel sends the command SIGTERM, if there is a launcher |
//! | the first SIGTERM or SIGINT | Envoy drains for `--drain-time`, SIGTERM, after `--stop-time` SIGKILL |
//! | the second one | SIGKILL |
//!
//! The command has its own process group: Ctrl-C in the terminal signals only the agent, which then stops the command
//! gracefully, and processes that the command leaves behind are killed with the group.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    future::pending,
    io,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt},
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
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
/// Disables Envoy's hot restart, because with it Envoy ends when the *thread* that started it ends.
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
    /// Words before them, see [`AgentConfig::launcher`](crate::AgentConfig).
    pub(crate) launcher: Vec<OsString>,
    /// Address of the Workload API for the command, as `unix:PATH`.
    pub(crate) workload_api: String,
    /// Drained before the command is stopped.
    pub(crate) envoy: Option<EnvoyAdmin>,
    pub(crate) drain_time: Duration,
    pub(crate) stop_time: Duration,
}

impl Supervisor {
    /// Runs the command until it ends with 0 or `shutdown` is requested. Returns its exit code, 128 plus the signal's
    /// number if a signal ended it.
    ///
    /// # Errors
    /// It cannot be started the first time.
    pub(crate) async fn run(&self, shutdown: &Shutdown) -> Result<u8, SpawnError> {
        let mut crashes = 0;
        let mut running = self.start()?;
        loop {
            let started = Instant::now();
            let code = tokio::select! {
                code = running.end() => code,
                () = shutdown.requested.cancelled() => return Ok(self.stop(running, shutdown).await),
            };
            self.note(false);
            if code == 0 {
                tracing::info!("the command has ended");
                return Ok(0);
            }
            crashes = if started.elapsed() >= GOOD_RUN { 1 } else { crashes + 1 };
            let pause = restart_pause(crashes);
            // Processes left behind by the crash could hold ports that the next run needs.
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
        if !self.launcher.is_empty() {
            // The launcher could only say so after it was started.
            find_program(&self.command[0]).map_err(failed)?;
        }
        let mut words = self.launcher.iter().chain(&self.command);
        let program = words.next().unwrap_or(&self.command[0]);
        let mut command = Command::new(program);
        command.args(words).process_group(0).kill_on_drop(true);
        // The name by which SPIFFE client libraries know it (SPIFFE Workload Endpoint §4).
        command.env("SPIFFE_ENDPOINT_SOCKET", &self.workload_api);
        let child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
        let group = group.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        self.note(true);
        Ok(Running { child, group })
    }

    fn note(&self, running: bool) {
        if let Some(envoy) = &self.envoy {
            envoy.note(running);
        }
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

    /// Drains, sends SIGTERM, and in the end SIGKILL.
    async fn stop(&self, mut running: Running, shutdown: &Shutdown) -> u8 {
        let code = tokio::select! {
            code = self.stop_gracefully(&mut running) => code,
            () = shutdown.forced.cancelled() => None,
        };
        // Also processes that the command left behind in its group.
        running.signal_group(Signal::SIGKILL);
        match code {
            Some(code) => code,
            None => running.end().await,
        }
    }

    /// The exit code, or `None` when it did not end in time.
    async fn stop_gracefully(&self, running: &mut Running) -> Option<u8> {
        if let Some(envoy) = &self.envoy
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

/// The running command. Its process group has the number of its process.
struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// Waits for its end and forwards signals meanwhile. Returns the exit code.
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

    /// Signals its process, unless it has ended: another process could have its number.
    fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            send(self.group, signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        // ESRCH: the group is empty, as intended.
        let _ = killpg(self.group, signal);
    }
}

/// Looks for a program as `execvp` does.
fn find_program(program: &OsStr) -> io::Result<()> {
    let runs = |path: &Path| {
        let found = path.metadata()?;
        let executable = found.is_file() && found.permissions().mode() & 0o111 != 0;
        if executable { Ok(()) } else { Err(Errno::EACCES.into()) }
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return runs(Path::new(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut tried = env::split_paths(&path).map(|folder| runs(&folder.join(program)));
    if tried.any(|found| found.is_ok()) { Ok(()) } else { Err(Errno::ENOENT.into()) }
}

/// Forwards each `signal` that the agent receives to `process`.
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

/// Whether `command` starts Envoy, directly or through a wrapper (`setpriv … envoy -c …`): a word whose file name is
/// `envoy` comes first or is followed by an option.
pub(crate) fn starts_envoy(command: &[OsString]) -> bool {
    command.iter().enumerate().any(|(at, word)| {
        let option_follows =
            || command.get(at + 1).is_some_and(|next| next.to_string_lossy().starts_with('-'));
        Path::new(word).file_name().is_some_and(|name| name == "envoy") && (at == 0 || option_follows())
    })
}

/// `command`, with Envoy's hot restart disabled if it starts Envoy.
pub(crate) fn without_hot_restart(mut command: Vec<OsString>) -> Vec<OsString> {
    if starts_envoy(&command) && !command.iter().any(|word| word == DISABLE_HOT_RESTART) {
        tracing::info!("{DISABLE_HOT_RESTART} is added to the command");
        command.push(DISABLE_HOT_RESTART.into());
    }
    command
}

#[cfg(test)]
mod tests;
