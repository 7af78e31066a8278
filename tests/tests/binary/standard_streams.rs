//! Readers of standard output and error that go away or do not read: no process dies of them, none waits for them, and all
//! can be ended.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _},
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use eastwest_tests::process::until;
use nix::{
    libc,
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::harness::{Bench, PATIENCE};

/// What becomes of the reader.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reader {
    /// It ends, as `head -1` does.
    Gone,
    /// It is there and reads no more; the pipe is full.
    Stuck,
    /// Standard error is on a full disk.
    FullDisk,
}

const READERS: [Reader; 3] = [Reader::Gone, Reader::Stuck, Reader::FullDisk];

/// A process of which nobody reads what it says after its first line.
struct Unheard {
    child: Child,
    /// The line that says that it is ready.
    ready: String,
    /// Holds the end of the pipe open that is read.
    _reader: Option<BufReader<PipeReader>>,
}

impl Unheard {
    /// Starts a command with both streams in one pipe, or standard error in `/dev/full`.
    fn start(mut command: Command, reader: Reader) -> Self {
        let (pipe, writer) = io::pipe().unwrap();
        let error = match reader {
            Reader::FullDisk => Stdio::from(File::options().write(true).open("/dev/full").unwrap()),
            Reader::Gone | Reader::Stuck => Stdio::from(writer.try_clone().unwrap()),
        };
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(error);
        let child = command.spawn().unwrap();
        drop(command);
        let mut pipe = BufReader::new(pipe);
        let mut ready = String::new();
        while !ready.contains(" ready ") {
            ready.clear();
            assert_ne!(pipe.read_line(&mut ready).unwrap(), 0, "it ended");
        }
        let reader = (reader != Reader::Gone).then_some(pipe);
        if reader.is_some() {
            fill(&writer.into());
        }
        Self { child, ready: ready.trim().to_owned(), _reader: reader }
    }

    /// The address that the first line has under this name.
    fn address(&self, name: &str) -> &str {
        self.ready.split(' ').find_map(|word| word.strip_prefix(name)).unwrap()
    }

    fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn wait(&mut self, patience: Duration) -> ExitStatus {
        until("its end", patience, || Ok(self.child.try_wait()?)).unwrap()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fills a pipe to its last byte. Opened anew, so that only this write does not wait.
fn fill(writer: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut options = File::options();
    let mut pipe = options.write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    for size in [4096, 1] {
        while pipe.write(&vec![b'.'; size]).is_ok() {}
    }
}

/// A page of the HTTP port.
fn page(address: &str, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.contains(" 200 OK").then_some(answer)
}

/// Waits until lines were dropped that the process wanted to write.
fn until_dropped(address: &str) {
    let dropped = |metrics: String| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("eastwest_log_lines_dropped_total "));
        line.is_some_and(|count| count.parse::<f64>().unwrap() > 0.0).then_some(())
    };
    until("dropped lines", PATIENCE, || Ok(page(address, "/metrics").and_then(dropped))).unwrap();
}

const PORTS: [&str; 4] = ["--grpc-tls-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];

fn serve(bench: &Bench, reader: Reader) -> Unheard {
    let flags = ["serve", "--config-dir", "manifests", "--grpc-addr", "127.0.0.1:0"];
    Unheard::start(bench.command(&[&flags, &PORTS[..]].concat()), reader)
}

#[test]
fn a_control_plane_goes_on_and_ends_by_signal_whatever_becomes_of_its_readers() {
    for reader in READERS {
        for stop in [Signal::SIGTERM, Signal::SIGINT] {
            let bench = Bench::new();
            let mut server = serve(&bench, reader);
            let http = server.address("http=").to_owned();
            // Each of these says something in the log.
            for _ in 0..3 {
                bench.edit("policies.yaml", "    mode: PERMISSIVE", "    mode: SOMETIMES");
                until("the mistake", PATIENCE, || {
                    Ok(page(&http, "/debug/config_errors").filter(|page| page.contains("SOMETIMES")))
                })
                .unwrap();
                bench.edit("policies.yaml", "    mode: SOMETIMES", "    mode: PERMISSIVE");
                until("its end", PATIENCE, || {
                    Ok(page(&http, "/debug/config_errors").filter(|page| !page.contains("SOMETIMES")))
                })
                .unwrap();
            }
            // A full pipe takes what fits in the queue first.
            if reader != Reader::Stuck {
                until_dropped(&http);
            }
            assert!(page(&http, "/readyz").is_some(), "{reader:?}");
            server.signal(stop);
            assert_eq!(server.wait(Duration::from_secs(8)).code(), Some(0), "{reader:?} {stop}");
        }
    }
}

#[test]
fn a_second_signal_ends_a_control_plane_at_once_though_nobody_hears_of_it() {
    for reader in READERS {
        let bench = Bench::new();
        let mut server = serve(&bench, reader);
        let mut idle = TcpStream::connect(server.address("http=")).unwrap();
        idle.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
        assert!(page(server.address("http="), "/healthz").is_some());
        server.signal(Signal::SIGTERM);
        until("the drain", PATIENCE, || {
            Ok(TcpStream::connect(server.address("grpc=")).is_err().then_some(()))
        })
        .unwrap();
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait(Duration::from_secs(3)).code(), Some(1), "{reader:?}");
    }
}

#[test]
fn a_lone_certificate_authority_and_an_agent_go_on_and_end_as_well() {
    for reader in READERS {
        let bench = Bench::new();
        let flags = ["ca", "serve", "--trust-domain", "ci.test"];
        let mut ca = Unheard::start(bench.command(&[&flags, &PORTS[..]].concat()), reader);
        std::fs::write(bench.path("token"), bench.token("shop/reviews")).unwrap();
        let mut agent = bench.command(&["agent", "--control-plane", ca.address("tls=")]);
        agent.args(["--ca-root", "state/root-cert.pem", "--token-file", "token", "--namespace", "shop"]);
        agent.args(["--pod", "reviews-0", "--service-account", "reviews", "--ip", "127.0.0.1"]);
        agent.args(["--trust-domain", "ci.test", "--dir", "agent", "--cert-ttl", "10s"]);
        let status = free_port();
        agent.args(["--status-port", &status.to_string(), "--", "sleep", "1000"]);
        let mut agent = Unheard::start(agent, reader);
        let status = format!("127.0.0.1:{status}");
        // It renews, which it says in its log.
        until("a renewal", PATIENCE, || {
            let renewed = |page: &String| !page.contains("certificates_total 1\n");
            Ok(page(&status, "/metrics").filter(renewed))
        })
        .unwrap();
        agent.signal(Signal::SIGTERM);
        // The status is that of its command.
        assert_eq!(agent.wait(Duration::from_secs(8)).code(), Some(143), "{reader:?}");
        ca.signal(Signal::SIGTERM);
        assert_eq!(ca.wait(Duration::from_secs(8)).code(), Some(0), "{reader:?}");
    }
}

/// A port that nobody has now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_command_whose_reader_goes_away_ends_quietly() {
    let bench = Bench::new();
    let commands: &[&[&str]] = &[
        &["completion", "bash"],
        &["--help"],
        &["tls", "bookshop/storefront-0", "--config-dir", "manifests", "-o", "json"],
        &["render", "bookshop/storefront-0", "--config-dir", "manifests"],
        &["check", "--config-dir", "manifests"],
    ];
    for arguments in commands {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = bench.command(arguments).stdout(writer).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // Nobody hears an error either, but its status tells.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = bench.command(&["tls", "bookshop/nobody", "--config-dir", "manifests"]);
    assert_eq!(command.arg0("eastwest").stderr(writer).status().unwrap().code(), Some(2));
}

#[test]
fn a_filter_or_format_of_the_log_that_means_nothing_is_an_error() {
    let bench = Bench::new();
    for command in [&["serve", "--config-dir", "manifests"][..], &["ca", "serve", "--ephemeral"]] {
        for filter in ["inof=x=y", "inof", "info;debug", "eastwest=trace,xx"] {
            let log = bench.run_with(command, &[("EASTWEST_LOG", filter)]);
            log.failure(2, &["EASTWEST_LOG", "info,eastwest_ca=debug"]);
        }
    }
    let format = [("EASTWEST_LOG_FORMAT", "xml")];
    let format = bench.run_with(&["serve", "--config-dir", "manifests"], &format);
    format.failure(2, &["EASTWEST_LOG_FORMAT", "\"xml\" is not text or json"]);
}
