//! Applications in pods: servers, and clients that a test drives.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    bookshop::Member,
    netns::Namespace,
    process::{Process, tail, until},
    programs,
};

/// How long a server may take to listen, and an exchange to be answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the application of `member`: every port answers HTTP requests with what it saw of them,
/// as JSON, and echoes other lines; greeting ports speak first.
pub fn serve(pod: &Namespace, member: &Member, dir: &Path) -> Result<Process> {
    let mut command = pod.command(programs::testapp()?);
    command.args(["serve", member.pod]);
    command.args(member.ports.iter().map(u16::to_string));
    command.args(member.greeting_ports.iter().map(|port| format!("greet:{port}")));
    let mut process = Process::spawn(member.pod, command, &dir.join("app.log"))?;
    process.wait_for_line("serving", PATIENCE)?;
    Ok(process)
}

/// The end of a `curl`.
#[derive(Debug)]
pub struct Answer {
    /// Exit code of curl: 0 answered, 52 empty answer, 56 reset.
    pub code: i32,
    /// HTTP status, 0 when there was none.
    pub status: u16,
    /// Body.
    pub body: String,
    /// What curl complained about.
    pub complaint: String,
}

impl Answer {
    /// Whether the application has answered.
    pub fn is_ok(&self) -> bool {
        self.code == 0 && self.status == 200
    }

    /// What the application saw of the request.
    pub fn seen(&self) -> Result<Value> {
        if !self.is_ok() {
            bail!("not answered: {self:?}");
        }
        serde_json::from_str(&self.body).with_context(|| format!("not our application: {}", self.body))
    }

    /// The header `name` (in lower case) as the application saw it.
    pub fn header(&self, name: &str) -> Result<Option<String>> {
        Ok(self.seen()?["headers"][name].as_str().map(str::to_owned))
    }
}

/// Runs curl in a pod: `http://host:port/path`, with `host` at `address`.
pub fn curl(pod: &Namespace, host: &str, address: &str, port: u16, path: &str) -> Result<Answer> {
    curl_with(pod, host, address, port, path, &[])
}

/// [`curl`] with more arguments.
pub fn curl_with(
    pod: &Namespace,
    host: &str,
    address: &str,
    port: u16,
    path: &str,
    more: &[&str],
) -> Result<Answer> {
    let mut command: Command = pod.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "5", "--write-out", "\n%{http_code}"]);
    if host != address {
        command.args(["--resolve", &format!("{host}:{port}:{}", url_host(address))]);
    }
    command.args(more).arg("--globoff").arg(format!("http://{}:{port}{path}", url_host(host)));
    let output = command.output().context("cannot run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        status: status.parse().unwrap_or(0),
        body: body.to_owned(),
        complaint: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub fn url_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// One TCP connection, kept open.
#[derive(Debug)]
pub struct Talk {
    process: Process,
    opened: Instant,
}

impl Talk {
    /// Connects. Behind a sidecar this always succeeds: the sidecar accepts.
    pub fn open(pod: &Namespace, address: &str, port: u16, log: &Path) -> Result<Self> {
        let mut command = pod.command(programs::testapp()?);
        command.arg("talk").arg(format!("{}:{port}", url_host(address)));
        let opened = Instant::now();
        let mut process = Process::spawn("talk", command, log)?;
        process.wait_for_line("connected", PATIENCE)?;
        Ok(Self { process, opened })
    }

    /// Waits for what a server that speaks first says; returns it, and how long after opening.
    pub fn greeting(&mut self) -> Result<(String, Duration)> {
        let line = self.process.wait_for_line("welcome", PATIENCE)?;
        Ok((line, self.opened.elapsed()))
    }

    /// Sends a line, which must be different each time, and waits for its echo.
    ///
    /// # Errors
    /// When the connection is closed, or nothing comes back in time.
    pub fn exchange(&mut self, line: &str) -> Result<()> {
        self.process.write_line(line)?;
        self.process.wait_for_line(&format!("echo {line}"), PATIENCE).map(drop)
    }

    /// Waits until the other side has closed it.
    pub fn closed(&mut self, patience: Duration) -> Result<()> {
        self.process.wait(patience).map(drop)
    }
}

/// Sends one line over a new connection; whether it came back.
pub fn echoes(pod: &Namespace, address: &str, port: u16) -> Result<bool> {
    let mut command = pod.command(programs::testapp()?);
    command.arg("once").arg(format!("{}:{port}", url_host(address)));
    Ok(command.output()?.status.success())
}

/// What a [`Load`] sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An HTTP request on a connection of its own; sidecars share theirs.
    Http,
    /// A TCP connection, one line, its echo: a new TLS handshake between the sidecars each time.
    Tcp,
}

/// A client that sends one request after the other until dropped.
#[derive(Debug)]
pub struct Load {
    process: Process,
}

/// What a load has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests answered.
    pub answered: usize,
    /// What became of the others.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts sending to `address`, with `host` as Host header, every few milliseconds.
    pub fn start(
        pod: &Namespace,
        kind: Kind,
        host: &str,
        address: &str,
        port: u16,
        log: &Path,
    ) -> Result<Self> {
        let mut command = pod.command(programs::testapp()?);
        let kind = if kind == Kind::Http { "http" } else { "tcp" };
        command.args(["load", kind, host, &format!("{address}:{port}")]);
        let mut process = Process::spawn("load", command, log)?;
        process.wait_for_line("ok", PATIENCE)?;
        Ok(Self { process })
    }

    /// What it has seen since it was started.
    pub fn counts(&self) -> Counts {
        let output = self.process.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        let (answered, failures): (Vec<_>, Vec<_>) = whole.lines().partition(|line| *line == "ok");
        Counts { answered: answered.len(), failures: failures.into_iter().map(str::to_owned).collect() }
    }

    /// Waits until it has sent `more` requests from now on, answered or not.
    pub fn passes(&mut self, more: usize, patience: Duration) -> Result<Counts> {
        let total = |counts: &Counts| counts.answered + counts.failures.len();
        let before = total(&self.counts());
        until("requests of a load", patience, || {
            if let Some(status) = self.process.ended()? {
                bail!("the load ended ({status}): {}", tail(&self.process.output()));
            }
            let counts = self.counts();
            Ok((total(&counts) >= before + more).then_some(counts))
        })
    }
}
