//! The real `eastwest serve`, beside the bridge.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    netns::{HUB_ADDRESS, HUB_ADDRESS_V6, Namespace},
    process::{Process, run},
    programs,
};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(20);

/// A control plane that can be killed and started again on the same state.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    command: Start,
    ready_after: Duration,
}

/// What it takes to start one.
#[derive(Debug)]
struct Start {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
}

impl ControlPlane {
    /// Starts `eastwest serve` in `hub` with its state in `dir`, and waits until it is ready.
    pub fn start(hub: &Namespace, config: &Path, dir: &Path) -> Result<Self> {
        let command = Start {
            program: programs::eastwest()?,
            config: config.to_owned(),
            state: dir.join("state"),
            log: dir.join("control-plane.log"),
        };
        let (process, ready_after) = command.run(hub)?;
        Ok(Self { process, command, ready_after })
    }

    /// HOST:PORT that the agent of a pod at `address` connects to.
    pub fn address(address: &str) -> String {
        match address.contains(':') {
            true => format!("[{HUB_ADDRESS_V6}]:15012"),
            false => format!("{HUB_ADDRESS}:15012"),
        }
    }

    /// Trust anchor of the mesh.
    pub fn root(&self) -> PathBuf {
        self.command.state.join("root-cert.pem")
    }

    /// From start to the line that says it is ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Ends it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<std::process::ExitStatus> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(patience)
    }

    /// Starts it again on the same manifests and state.
    pub fn restart(&mut self, hub: &Namespace) -> Result<()> {
        (self.process, self.ready_after) = self.command.run(hub)?;
        Ok(())
    }

    /// Mints a service-account token as a person would: `eastwest token`.
    pub fn token(&self, namespace: &str, service_account: &str) -> Result<String> {
        let mut token = Command::new(&self.command.program);
        token.args(["token", "--service-account", &format!("{namespace}/{service_account}")]);
        token.arg("--state-dir").arg(&self.command.state);
        Ok(run(token)?.trim().to_owned())
    }

    /// A key and a certificate for anybody, as files in `out`: `eastwest ca issue`.
    pub fn issue(&self, spiffe_id: &str, out: &Path) -> Result<()> {
        let mut issue = Command::new(&self.command.program);
        issue.args(["ca", "issue", spiffe_id, "--out"]).arg(out);
        issue.arg("--state-dir").arg(&self.command.state);
        run(issue).map(drop)
    }

    /// Lets the root be rotated by one step, as a person would: `eastwest ca rotate`; how far it is then.
    pub fn rotate(&self, step: &str) -> Result<Value> {
        let mut rotate = Command::new(&self.command.program);
        rotate.args(["ca", "rotate", "--step", step, "--wait", "-o", "json", "--state-dir"]);
        rotate.arg(&self.command.state);
        serde_json::from_str(&run(rotate)?).context("`ca rotate` prints no JSON")
    }

    /// A page of its HTTP port, such as `/metrics`.
    pub fn page(&self, hub: &Namespace, path: &str) -> Result<String> {
        let mut curl = hub.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5"]);
        curl.arg(format!("http://{HUB_ADDRESS}:15014{path}"));
        run(curl)
    }

    /// `/debug/syncz`: the state of every connected proxy.
    pub fn syncz(&self, hub: &Namespace) -> Result<Value> {
        serde_json::from_str(&self.page(hub, "/debug/syncz")?).context("/debug/syncz is no JSON")
    }
}

impl Start {
    fn run(&self, hub: &Namespace) -> Result<(Process, Duration)> {
        let mut serve = hub.command(&self.program);
        serve.arg("serve").arg("--config-dir").arg(&self.config).arg("--state-dir").arg(&self.state);
        serve.args(["--grpc-tls-addr", "[::]:15012"]);
        serve.args(["--http-addr", &format!("{HUB_ADDRESS}:15014")]);
        let started = Instant::now();
        let mut process = Process::spawn("eastwest serve", serve, &self.log)?;
        process.wait_for_line("eastwest ready", START)?;
        Ok((process, started.elapsed()))
    }
}
