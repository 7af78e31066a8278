//! The program under measurement.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use eastwest_tests::{process::Process, programs};

/// A running `eastwest serve`.
pub(crate) struct Program {
    process: Process,
    grpc: String,
    /// From the start of the process, while the API runs.
    pub(crate) ready_after: Duration,
}

impl Program {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(kubeconfig: &Path, dir: &Path, name: &str) -> Self {
        let mut command = Command::new(programs::eastwest().unwrap());
        command.env_clear().env("EASTWEST_LOG", "warn").current_dir(dir);
        command.args(["serve", "--leader-elect", "false", "--grpc-addr", "127.0.0.1:0"]);
        command.args(["--grpc-tls-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--kubeconfig"]);
        command.arg(kubeconfig);
        let started = Instant::now();
        let mut process = Process::spawn("eastwest", command, &dir.join(name)).unwrap();
        let ready = process.wait_for_line("eastwest ready", Duration::from_secs(120)).unwrap();
        let ready_after = started.elapsed();
        let grpc = ready.split(' ').find_map(|word| word.strip_prefix("grpc=")).unwrap().to_owned();
        Self { process, grpc, ready_after }
    }

    /// The address of plaintext gRPC.
    pub(crate) fn grpc(&self) -> &str {
        &self.grpc
    }

    /// CPU seconds so far, of user and system.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in ticks of a hundredth of a second (proc(5)).
        fields[11..=12].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}
