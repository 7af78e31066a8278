//! The real `eastwest serve` in Kubernetes mode.

use std::{fs, process::Command, time::Duration};

use eastwest_tests::{
    process::{Process, run, until},
    programs,
};
use serde_json::Value;

use crate::{PATIENCE, cluster::Cluster, proxies::Identity};

/// A running control plane, its files in a folder of their own.
pub(crate) struct Server {
    pub(crate) process: Process,
    dir: tempfile::TempDir,
    tls: Option<String>,
    http: String,
}

impl Server {
    /// Starts it with the administrator's rights and waits until it is ready.
    pub(crate) fn start(cluster: &Cluster, flags: &[&str]) -> Self {
        Self::start_as(&cluster.kubeconfig().display().to_string(), flags)
    }

    /// The same with this kubeconfig.
    pub(crate) fn start_as(kubeconfig: &str, flags: &[&str]) -> Self {
        let mut server = Self::spawn(kubeconfig, flags);
        server.wait_until_ready();
        server
    }

    /// Starts it without waiting; its HTTP port is chosen before.
    pub(crate) fn spawn(kubeconfig: &str, flags: &[&str]) -> Self {
        Self::spawn_by(eastwest(), &[&["--kubeconfig", kubeconfig], flags].concat())
    }

    /// The same with a command that runs `eastwest`.
    pub(crate) fn spawn_by(mut command: Command, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let http = free_address();
        command.args(["serve", "--grpc-tls-addr", "127.0.0.1:0", "--http-addr"]);
        command.arg(&http).args(flags).current_dir(dir.path());
        let process = Process::spawn("eastwest", command, &dir.path().join("log")).unwrap();
        Self { process, dir, tls: None, http }
    }

    pub(crate) fn wait_until_ready(&mut self) {
        let ready = self.process.wait_for_line("eastwest ready", PATIENCE).unwrap();
        self.tls = ready.split(' ').find_map(|word| word.strip_prefix("tls=")).map(str::to_owned);
        assert_eq!(self.readyz().0, 200, "{}", self.process.output());
    }

    /// The address of TLS gRPC.
    pub(crate) fn tls(&self) -> &str {
        self.tls.as_deref().unwrap()
    }

    /// Status and text of `/readyz`; 0 without an answer.
    pub(crate) fn readyz(&self) -> (u16, String) {
        self.get("/readyz")
    }

    /// Status and text of a page; 0 without an answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]);
        let output = curl.arg(format!("http://{}{path}", self.http)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), text.to_owned())
    }

    /// A page in JSON.
    pub(crate) fn page(&self, path: &str) -> Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a command of `eastwest` against it; its standard output.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut command = eastwest();
        command.args(words).args(["--server", &format!("http://{}", self.http)]);
        run(command).unwrap()
    }

    /// Waits for a page that satisfies `condition`.
    pub(crate) fn wait_for_page(&self, path: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let page = || Ok(Some(self.page(path)).filter(|page| condition(page)));
        until(what, PATIENCE, page).unwrap_or_else(|error| panic!("{error}: {}", self.get(path).1))
    }

    /// Requests a certificate with a token: `eastwest ca issue`. The error has what the command said.
    pub(crate) fn issue(&self, token: &str, account: &str, roots: &str) -> anyhow::Result<Value> {
        self.issue_for(token, account, roots, &[])
    }

    /// The same with further flags.
    pub(crate) fn issue_for(
        &self,
        token: &str,
        account: &str,
        roots: &str,
        flags: &[&str],
    ) -> anyhow::Result<Value> {
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("token"), token)?;
        fs::write(path("roots.pem"), roots)?;
        let mut command = eastwest();
        command.args(["ca", "issue", "--server", self.tls(), "--out", "issued", "-o", "json"]);
        command.args(["--service-account", account, "--token-file", "token", "--ca-root", "roots.pem"]);
        command.args(flags);
        command.current_dir(self.dir.path());
        Ok(serde_json::from_str(&run(command)?)?)
    }

    /// A certificate of an account, with its key.
    pub(crate) fn identity(&self, token: &str, account: &str, roots: &str) -> Identity {
        self.issue(token, account, roots).unwrap();
        let read = |name: &str| fs::read_to_string(self.dir.path().join("issued").join(name)).unwrap();
        Identity { chain: read("cert-chain.pem"), key: read("key.pem"), roots: roots.to_owned() }
    }

    /// Its resident memory in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends it with SIGTERM and waits.
    pub(crate) fn terminate(&mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.process.wait(Duration::from_secs(20)).unwrap();
        assert!(status.success(), "{status}: {}", self.process.output());
    }
}

/// `eastwest` without anything of the environment.
pub(crate) fn eastwest() -> Command {
    let mut command = Command::new(programs::eastwest().unwrap());
    command.env_clear();
    command
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
