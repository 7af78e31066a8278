//! The server under measurement.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use eastwest_tests::{process::Process, process::run, programs};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// How long a start may take.
const START: Duration = Duration::from_secs(120);

/// What it takes to start a server, again on the same ports.
pub(crate) struct Place {
    program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) core: Option<usize>,
    /// Plaintext, TLS and HTTP; any free ones at first.
    ports: [SocketAddr; 3],
}

/// A running `eastwest serve`.
pub(crate) struct Server {
    process: Process,
    pub(crate) ready_after: Duration,
}

impl Place {
    pub(crate) fn new(config: &Path, dir: &Path, core: Option<usize>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (config, dir) = (config.to_owned(), dir.to_owned());
        Self { program: programs::eastwest().unwrap(), config, dir, core, ports: [any; 3] }
    }

    /// The plaintext port.
    pub(crate) fn plaintext(&self) -> SocketAddr {
        self.ports[0]
    }

    /// The port with TLS.
    pub(crate) fn tls(&self) -> SocketAddr {
        self.ports[1]
    }

    /// The trust anchor, PEM.
    pub(crate) fn root(&self) -> String {
        fs::read_to_string(self.dir.join("state/root-cert.pem")).unwrap()
    }

    /// Another command of the program, on the same state.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.env_clear().args(arguments).arg("--state-dir").arg(self.dir.join("state"));
        run(command).unwrap()
    }

    /// Starts the server, and waits until it is ready.
    pub(crate) fn start(&mut self) -> Server {
        let mut command = match self.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core.to_string()]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        // Variables of the allocator are passed on.
        command.env_clear().envs(std::env::vars().filter(|(name, _)| name.starts_with("MIMALLOC_")));
        command.env("EASTWEST_LOG", "warn").current_dir(&self.dir).arg("serve");
        command.arg("--config-dir").arg(&self.config).arg("--state-dir").arg(self.dir.join("state"));
        for (flag, port) in ["--grpc-addr", "--grpc-tls-addr", "--http-addr"].iter().zip(self.ports) {
            command.args([flag, &*port.to_string()]);
        }
        let started = Instant::now();
        let mut process = Process::spawn("eastwest", command, &self.dir.join("server.log")).unwrap();
        let line = process.wait_for_line("eastwest ready", START).unwrap();
        let ready_after = started.elapsed();
        for (port, name) in self.ports.iter_mut().zip(["grpc=", "tls=", "http="]) {
            let word = line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap();
            *port = word.parse().unwrap();
        }
        Server { process, ready_after }
    }
}

impl Server {
    fn id(&self) -> u32 {
        self.process.id()
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.id().try_into().unwrap())).unwrap();
        clock_gettime(clock).unwrap().into()
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that was resident, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How often a thread of it left the processor to wait.
    pub(crate) fn switches(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let texts = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        texts
            .filter_map(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
                line.trim().parse::<u64>().ok()
            })
            .sum()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
    }
}
