//! `eastwest agent` with stock Envoy, as user 1337 in a pod.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    bookshop::Member,
    control_plane::ControlPlane,
    netns::Namespace,
    process::{Process, run, tail, until},
    programs,
    redirection::SIDECAR_ID,
};

/// How long the first certificate and Envoy's first configuration may take.
const START: Duration = Duration::from_secs(30);

/// Seconds after which Envoy closes connections of a listener that was replaced. Short, so that a
/// test sees it happen.
pub const DRAIN_SECONDS: u64 = 2;

/// An agent and its Envoy.
#[derive(Debug)]
pub struct Sidecar {
    agent: Process,
}

/// Identity and expiry of the certificate that Envoy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// URI SAN.
    pub spiffe_id: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// End of validity, RFC 3339.
    pub expires: String,
}

impl Sidecar {
    /// Starts the agent of `member` in `pod`, in the folder `dir`, with further flags, and waits until Envoy serves.
    pub fn start(
        pod: &Namespace,
        member: &Member,
        control_plane: &ControlPlane,
        dir: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let work = hand_over(member, control_plane, dir)?;
        let command = agent_command(pod, member, &work, flags)?;
        let mut agent = Process::spawn("eastwest agent", command, &dir.join("sidecar.log"))?;
        agent.wait_for_line("eastwest agent ready", START)?;
        until("readiness of the sidecar", START, || {
            // Ends the wait when the agent has ended.
            if let Some(status) = agent.ended()? {
                bail!("eastwest agent ended ({status}):\n{}", tail(&agent.output()));
            }
            Ok(ready(pod).then_some(()))
        })
        .with_context(|| tail(&agent.output()))?;
        Ok(Self { agent })
    }

    /// Stops the agent with SIGSTOP; Envoy goes on without it.
    pub fn freeze_agent(&self) -> Result<()> {
        self.agent.signal(Signal::SIGSTOP)
    }

    /// Continues a stopped agent.
    pub fn thaw_agent(&self) -> Result<()> {
        self.agent.signal(Signal::SIGCONT)
    }

    /// Asks the agent to end as a kubelet would, and waits for it and its Envoy.
    pub fn terminate(&mut self, patience: Duration) -> Result<std::process::ExitStatus> {
        self.agent.signal(Signal::SIGTERM)?;
        self.agent.wait(patience)
    }
}

/// Puts token and trust anchor where the sidecar's user can read them, as a projected volume would.
fn hand_over(member: &Member, control_plane: &ControlPlane, dir: &Path) -> Result<PathBuf> {
    let work = dir.join("agent");
    fs::create_dir_all(&work)?;
    fs::copy(control_plane.root(), work.join("root-cert.pem"))?;
    let token = work.join("token");
    fs::write(&token, control_plane.token(member.namespace, member.app)?)?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    for path in [&work, &token] {
        chown(path, Some(SIDECAR_ID), Some(SIDECAR_ID))?;
    }
    fs::set_permissions(work.join("root-cert.pem"), fs::Permissions::from_mode(0o644))?;
    Ok(work)
}

fn agent_command(pod: &Namespace, member: &Member, work: &Path, flags: &[&str]) -> Result<Command> {
    let mut agent = pod.command_as(SIDECAR_ID, programs::eastwest()?);
    agent.args(["agent", "--control-plane", &ControlPlane::address(member.address)]);
    agent.arg("--ca-root").arg(work.join("root-cert.pem"));
    agent.arg("--token-file").arg(work.join("token"));
    agent.args(["--namespace", member.namespace, "--pod", member.pod]);
    agent.args(["--service-account", member.app, "--ip", &member.addresses().join(",")]);
    agent.args(["--label", &format!("app={}", member.app)]);
    agent.args(["--label", &format!("version={}", member.version)]);
    agent.args(["--label", "security.istio.io/tlsMode=istio"]);
    // Rules of the tests name files in their own folders.
    agent.args(["--certificate-dir", "/"]);
    agent.args(flags).arg("--dir").arg(work);
    agent.arg("--").arg(programs::envoy()?).arg("-c").arg(work.join("envoy.yaml"));
    agent.args(["--disable-hot-restart", "--drain-strategy", "immediate", "--concurrency", "1"]);
    agent.args(["--drain-time-s", &DRAIN_SECONDS.to_string()]);
    // What Envoy would only count and ignore is a mistake of ours.
    agent.args(["--reject-unknown-dynamic-fields"]);
    Ok(agent)
}

fn ready(pod: &Namespace) -> bool {
    let mut curl = pod.command("curl");
    curl.args(["--silent", "--fail", "--max-time", "2", "http://127.0.0.1:15021/healthz/ready"]);
    run(curl).is_ok()
}

/// A page of Envoy's administration port.
pub fn admin(pod: &Namespace, path: &str) -> Result<String> {
    let mut curl = pod.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--globoff", "--max-time", "5"]);
    curl.arg(format!("http://localhost:15000{path}"));
    run(curl).with_context(|| format!("Envoy's {path}"))
}

/// Envoy's counter or gauge of this name. Zero, if it has none: many appear when first counted.
pub fn stat(pod: &Namespace, name: &str) -> Result<u64> {
    sum(pod, |found| found == name)
}

/// The sum of Envoy's counters and gauges whose name ends with `suffix`.
pub fn stats(pod: &Namespace, suffix: &str) -> Result<u64> {
    sum(pod, |found| found.ends_with(suffix))
}

fn sum(pod: &Namespace, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let text = admin(pod, "/stats")?;
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    Ok(pairs.filter(|(name, _)| wanted(name)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}

/// The certificate that Envoy uses now, from its `/certs`.
pub fn certificate(pod: &Namespace) -> Result<Certificate> {
    let page: Value = serde_json::from_str(&admin(pod, "/certs")?)?;
    let entries = page["certificates"].as_array().context("/certs has no certificates")?;
    let leaf = entries.iter().find_map(|entry| entry["cert_chain"].get(0));
    let leaf = leaf.context("Envoy has no certificate")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("an unknown shape of /certs");
    Ok(Certificate {
        spiffe_id: text(&leaf["subject_alt_names"][0]["uri"])?,
        serial: text(&leaf["serial_number"])?,
        expires: text(&leaf["expiration_time"])?,
    })
}
