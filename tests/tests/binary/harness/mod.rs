//! What the tests share: a folder with manifests and state, commands that run in it to their end, a server, and clients.

pub(crate) mod clients;
pub(crate) mod plugged;
pub(crate) mod xds;

use std::{
    fs::{self, Permissions},
    io::{Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use eastwest_tests::{
    bookshop::Manifests,
    process::{Process, until},
    programs,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The longest wait for an event that is expected soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a copy of the bookshop's manifests and room for state.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) manifests: Manifests,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::copy_to(&dir.path().join("manifests")).unwrap();
        Self { dir, manifests }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// `eastwest` in this folder with these arguments, and none of the environment's settings. The command finds the
    /// state by a variable.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs::eastwest().unwrap());
        command.env_clear().env("EASTWEST_STATE_DIR", self.state()).current_dir(self.dir.path());
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, &[])
    }

    /// Runs a command with environment variables.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut streams = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        command.stdout(streams[0].try_clone().unwrap()).stderr(streams[1].try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let ended = until("its end", PATIENCE, || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill().unwrap();
        }
        let [out, err] = streams.each_mut().map(|stream| {
            let mut text = String::new();
            stream.rewind().unwrap();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let code = ended.unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{err}")).code().unwrap();
        Finished { code, out, err }
    }

    /// `eastwest serve` that cannot start.
    pub(crate) fn refused(&self, flags: &[&str]) -> Finished {
        let finished = self.run_with(&[&["serve"], flags].concat(), &SERVE);
        assert!(!finished.out.contains("eastwest ready"), "{}", finished.out);
        finished
    }

    /// A running server.
    pub(crate) fn serve(&self, flags: &[&str]) -> Server {
        self.serve_with(flags, &[])
    }

    /// A running server with environment variables.
    pub(crate) fn serve_with(&self, flags: &[&str], variables: &[(&str, &str)]) -> Server {
        let log =
            tempfile::Builder::new().prefix("serve").suffix(".log").tempfile_in(self.dir.path()).unwrap();
        let log = log.into_temp_path().keep().unwrap();
        let mut command = self.command(&[&["serve"], flags].concat());
        command.envs(SERVE).envs(variables.iter().copied());
        Server::when_ready(Process::spawn("eastwest serve", command, &log).unwrap())
    }

    /// A running server that may have this many file descriptors.
    pub(crate) fn serve_limited(&self, descriptors: u32) -> Server {
        let mut command = Command::new("sh");
        command.env_clear().env("EASTWEST_STATE_DIR", self.state()).envs(SERVE);
        command.current_dir(self.dir.path()).arg("-c");
        command.arg(format!("ulimit -n {descriptors} && exec \"$0\" serve"));
        command.arg(programs::eastwest().unwrap());
        let log = self.path("limited.log");
        Server::when_ready(Process::spawn("eastwest serve", command, &log).unwrap())
    }

    /// A service-account token, `NAMESPACE/NAME`.
    pub(crate) fn token(&self, account: &str) -> String {
        self.run(&["token", "--service-account", account]).success().trim().to_owned()
    }

    /// The trust anchor of the mesh, PEM.
    pub(crate) fn root(&self) -> String {
        fs::read_to_string(self.state().join("root-cert.pem")).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        self.manifests.write(file, text).unwrap();
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        self.manifests.edit(file, from, to).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.manifests.dir().join(file)).unwrap();
    }
}

/// Settings of `serve` that tests do not give as flags.
const SERVE: [(&str, &str); 4] = [
    ("EASTWEST_CONFIG_DIR", "manifests"),
    ("EASTWEST_GRPC_ADDR", "127.0.0.1:0"),
    ("EASTWEST_GRPC_TLS_ADDR", "127.0.0.1:0"),
    ("EASTWEST_HTTP_ADDR", "127.0.0.1:0"),
];

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// What it printed; it must have succeeded.
    pub(crate) fn success(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    /// Its standard error, which must have each of `texts`. The command must have ended with this code and printed nothing
    /// else.
    pub(crate) fn failure(&self, code: i32, texts: &[&str]) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "errors go to stderr");
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is not said: {}", self.err);
        }
        &self.err
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running `eastwest serve`.
pub(crate) struct Server {
    process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) http: SocketAddr,
    /// The bundle endpoint, if there is one.
    pub(crate) bundle: Option<SocketAddr>,
}

impl Server {
    fn when_ready(mut process: Process) -> Self {
        let line = process.wait_for_line("eastwest ready", PATIENCE).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["eastwest", "ready", addresses @ ..] = &words[..] else { panic!("{line:?}") };
        let [grpc, tls, http, bundle @ ..] = addresses else { panic!("{line:?}") };
        let address = |word: &str, name: &str| {
            word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')?.parse().ok()).expect(word)
        };
        let bundle = bundle.first().map(|word| address(word, "bundle"));
        let (grpc, tls, http) = (address(grpc, "grpc"), address(tls, "tls"), address(http, "http"));
        Self { grpc, tls, http, bundle, process }
    }

    /// What it printed and logged.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// The address of its pages.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// A page: its status and its text.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.http).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A page of JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.page(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Waits until a page of JSON is as wanted.
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(path, PATIENCE, || Ok(Some(self.json(path)).filter(&wanted)))
            .unwrap_or_else(|error| panic!("{error}: {:#}", self.json(path)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        self.process.wait(patience).unwrap_or_else(|error| panic!("{error}: {}", self.output()))
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.wait(PATIENCE).success(), "{}", self.output());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let output = self.output();
        let wanted = output.contains("a fault that a test asked for");
        let panicked = output.contains("panicked at") && !wanted;
        assert!(!panicked || std::thread::panicking(), "the server panicked: {}", self.output());
    }
}

/// The permission bits of a file or folder.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
