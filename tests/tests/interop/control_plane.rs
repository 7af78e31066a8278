//! The real `eastwest` and its commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use eastwest_tests::{
    process::{Process, run, until},
    programs,
};
use serde_json::Value;

use crate::PATIENCE;

/// `eastwest ca serve` or `eastwest serve`, its state in the folder `state` of `dir`.
pub(crate) struct ControlPlane {
    process: Process,
    /// HOST:PORT of TLS gRPC.
    pub(crate) tls: String,
    dir: PathBuf,
}

/// `eastwest` with the state of `dir`, and nothing else of the environment.
pub(crate) fn eastwest(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::eastwest().unwrap());
    command.env_clear().env("EASTWEST_STATE_DIR", dir.join("state")).current_dir(dir).args(arguments);
    command
}

impl ControlPlane {
    /// Starts `eastwest WORDS` on free ports and waits until it is ready.
    pub(crate) fn start(dir: &Path, words: &[&str]) -> Self {
        Self::spawn(dir, eastwest(dir, words))
    }

    /// The same for a command that runs `eastwest`.
    pub(crate) fn spawn(dir: &Path, mut command: Command) -> Self {
        for port in ["GRPC", "GRPC_TLS", "HTTP"] {
            command.env(format!("EASTWEST_{port}_ADDR"), "127.0.0.1:0");
        }
        let log = tempfile::Builder::new().suffix(".log").tempfile_in(dir).unwrap();
        let log = log.into_temp_path().keep().unwrap();
        let mut process = Process::spawn("eastwest", command, &log).unwrap();
        let ready = process.wait_for_line("eastwest ready", PATIENCE).unwrap();
        let tls = ready.split(' ').find_map(|word| word.strip_prefix("tls=")).unwrap().to_owned();
        Self { process, tls, dir: dir.to_owned() }
    }

    /// The trust anchor for it.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("state/root-cert.pem")
    }

    /// Its output and log.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Requests a certificate with `token` for `NAMESPACE/NAME`: `eastwest ca issue`.
    pub(crate) fn issue(&self, token: &str, account: &str) -> anyhow::Result<Value> {
        let file = self.dir.join("token");
        fs::write(&file, token)?;
        let mut command = eastwest(&self.dir, &["ca", "issue", "--server", &self.tls, "--out", "issued"]);
        command.args(["--service-account", account, "-o", "json", "--token-file"]).arg(file);
        Ok(serde_json::from_str(&run(command)?)?)
    }

    /// Waits until `token` gets a certificate.
    pub(crate) fn issues(&self, token: &str, account: &str) -> Value {
        let issued = until("a certificate", PATIENCE, || Ok(self.issue(token, account).ok()));
        issued.unwrap_or_else(|error| panic!("{error}: {}", self.output()))
    }

    /// Checks that `token` gets no certificate, and that the log has this reason.
    pub(crate) fn refuses(&self, token: &str, account: &str, why: &str) {
        let before = self.output().len();
        let refused = self.issue(token, account).unwrap_err().to_string();
        assert!(refused.contains("valid authentication credentials"), "{refused}");
        let said = self.output().split_off(before);
        assert!(said.contains(why), "{why:?} is not said: {said}");
    }

    /// The records of the ledger about `NAMESPACE/NAME`.
    pub(crate) fn ledger(&self, account: &str) -> Vec<Value> {
        let query = eastwest(&self.dir, &["ca", "ledger", "query", "-o", "json", "--identity", account]);
        serde_json::from_str(&run(query).unwrap()).unwrap()
    }
}
