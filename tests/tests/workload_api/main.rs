//! The Workload API of real agents, taken by the SPIFFE client library for Python as its makers ship it: nothing of
//! ours is on the client's side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eastwest_tests::{
    process::{Process, run},
    programs,
};

/// How long anything may take that should happen soon.
const PATIENCE: Duration = Duration::from_secs(40);

/// A control plane and agents, in a folder of their own.
struct Mesh {
    dir: tempfile::TempDir,
    serve: Process,
    tls: String,
}

impl Mesh {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let mut command = eastwest(dir.path());
        command.args(["serve", "--config-dir", "manifests", "--grpc-addr", "127.0.0.1:0"]);
        command.args(["--grpc-tls-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]).args(flags);
        let mut serve = Process::spawn("eastwest serve", command, &dir.path().join("serve.log")).unwrap();
        let ready = serve.wait_for_line("eastwest ready", PATIENCE).unwrap();
        Self { dir, serve, tls: named(&ready, "tls=") }
    }

    /// The address of the bundle endpoint.
    fn endpoint(&mut self) -> String {
        named(&self.serve.wait_for_line("eastwest ready", PATIENCE).unwrap(), "bundle=")
    }

    /// An agent of the service account `shop/NAME`, its certificates living `ttl`, and its socket.
    fn agent(&self, name: &str, ttl: &str) -> (Process, PathBuf) {
        let dir = self.dir.path();
        let mut token = eastwest(dir);
        token.args(["token", "--service-account", &format!("shop/{name}")]);
        fs::write(dir.join(format!("{name}.token")), run(token).unwrap()).unwrap();
        let mut command = eastwest(dir);
        command.args(["agent", "--control-plane", &self.tls, "--ca-root", "state/root-cert.pem"]);
        command.args(["--token-file", &format!("{name}.token"), "--namespace", "shop", "--pod", name]);
        command.args(["--service-account", name, "--ip", "127.0.0.1", "--dir", name, "--cert-ttl", ttl]);
        command.args(["--status-port", "0"]);
        let mut agent = Process::spawn(name, command, &dir.join(format!("{name}.log"))).unwrap();
        agent.wait_for_line("eastwest agent ready", PATIENCE).unwrap();
        (agent, dir.join(name).join("sds.sock"))
    }

    /// `workload.py` with these arguments, at work.
    fn workload(&self, what: &str, socket: &Path, arguments: &[&str]) -> Process {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workload_api/workload.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(what).arg(socket).args(arguments);
        command.env("PYTHONPATH", programs::spiffe_for_python().unwrap());
        Process::spawn(what, command, &self.dir.path().join(format!("{what}.log"))).unwrap()
    }
}

/// What follows `name` in the line of what is ready.
fn named(ready: &str, name: &str) -> String {
    ready.split(name).nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

/// `eastwest` in the folder `dir`, its state there too.
fn eastwest(dir: &Path) -> Command {
    let mut command = Command::new(programs::eastwest().unwrap());
    command.env_clear().env("EASTWEST_STATE_DIR", "state").current_dir(dir);
    command
}

/// Waits for the good end of a workload and returns what it said.
fn said(mut workload: Process) -> String {
    let status = workload.wait(PATIENCE).unwrap();
    let output = workload.output();
    assert!(status.success(), "{output}");
    let shown = output.lines().filter(|line| !line.starts_with("token ey"));
    shown.for_each(|line| println!("interop: Python spiffe: {line}"));
    output
}

#[test]
#[ignore = "needs the SPIFFE client library for Python"]
fn the_python_library_gets_identity_and_bundle_and_each_renewal() {
    let mesh = Mesh::start();
    let (_agent, socket) = mesh.agent("reviews", "12s");
    let fetched = said(mesh.workload("fetch", &socket, &[]));
    assert!(fetched.contains("identity spiffe://cluster.local/ns/shop/sa/reviews"), "{fetched}");
    assert!(fetched.contains("key belongs to leaf: True"), "{fetched}");
    let mut show = eastwest(mesh.dir.path());
    show.args(["ca", "show", "-o", "json"]);
    let ca: serde_json::Value = serde_json::from_str(&run(show).unwrap()).unwrap();
    let root = ca["roots"][0]["sha256"].as_str().unwrap();
    assert!(fetched.contains(&format!("root of cluster.local {root}")), "{fetched}");

    let followed = said(mesh.workload("follow", &socket, &["2"]));
    let serials: Vec<_> =
        followed.lines().filter_map(|line| line.split_once("serial ")).map(|l| l.1).collect();
    let [first, second, third] = serials[..] else { panic!("{followed}") };
    assert!(first != second && second != third, "each certificate is another: {followed}");
}

#[test]
#[ignore = "needs the SPIFFE client library for Python"]
fn two_python_processes_talk_mutual_tls_with_what_their_libraries_gave_them() {
    let mesh = Mesh::start();
    let (_reviews, reviews) = mesh.agent("reviews", "1h");
    let (_ratings, ratings) = mesh.agent("ratings", "1h");
    let mut server = mesh.workload("serve", &ratings, &[]);
    let listening = server.wait_for_line("listening", PATIENCE).unwrap();
    let port = listening.split(' ').nth(1).unwrap();
    let called = said(mesh.workload("call", &reviews, &[port]));
    assert!(called.contains("server is spiffe://cluster.local/ns/shop/sa/ratings"), "{called}");
    assert!(called.contains("it says hello spiffe://cluster.local/ns/shop/sa/reviews"), "{called}");
    let served = said(server);
    assert!(served.contains("client is spiffe://cluster.local/ns/shop/sa/reviews"), "{served}");
}

#[test]
#[ignore = "needs the SPIFFE client library for Python"]
fn the_python_library_tells_a_workload_without_identity_why() {
    let mesh = Mesh::start();
    let dir = mesh.dir.path();
    fs::write(dir.join("token"), "no.token.atall").unwrap();
    let mut command = eastwest(dir);
    command.args(["agent", "--control-plane", &mesh.tls, "--ca-root", "state/root-cert.pem"]);
    command.args(["--token-file", "token", "--namespace", "shop", "--pod", "nobody", "--ip", "127.0.0.1"]);
    command.args(["--dir", "nobody", "--status-port", "0"]);
    let mut agent = Process::spawn("nobody", command, &dir.join("nobody.log")).unwrap();
    agent.wait_for_line("the CA refused", PATIENCE).unwrap();
    let refused = said(mesh.workload("refused", &dir.join("nobody/sds.sock"), &[]));
    assert!(refused.contains("refused") && refused.contains("the CA refused"), "{refused}");
    drop(mesh.serve);
}

/// Two control planes, each the other's foreign domain by its bundle endpoint: workloads of one verify those of the
/// other, by certificate and by token.
#[test]
#[ignore = "needs the SPIFFE client library for Python"]
fn workloads_of_two_federated_domains_verify_each_other() {
    let mut b = Mesh::start_with(&["--trust-domain", "b.example", "--bundle-addr", "127.0.0.1:0"]);
    let root = b.dir.path().join("state/root-cert.pem").display().to_string();
    let id = "spiffe://b.example/ns/istio-system/sa/eastwest";
    let relationship = format!("b.example=https://{}/,id={id},bundle={root}", b.endpoint());
    let a = Mesh::start_with(&["--trust-domain", "a.example", "--federate", &relationship]);
    let (_server, server) = a.agent("server", "1h");
    let (_caller, caller) = b.agent("caller", "1h");

    let token = said(b.workload("sign", &caller, &["a-server"]));
    assert!(token.contains("token of spiffe://b.example/ns/shop/sa/caller for a-server"), "{token}");
    let token = token.lines().find_map(|line| line.strip_prefix("token ey")).unwrap();
    let validated = said(a.workload("validate", &server, &["a-server", &format!("ey{token}")]));
    assert!(validated.contains("validated spiffe://b.example/ns/shop/sa/caller"), "{validated}");
    assert!(validated.contains("verified spiffe://b.example/ns/shop/sa/caller"), "{validated}");

    let fetched = said(a.workload("fetch", &server, &[]));
    assert!(fetched.contains("root of a.example ") && fetched.contains("root of b.example "), "{fetched}");
    let fetched = said(b.workload("fetch", &caller, &[]));
    assert!(!fetched.contains("root of a.example "), "federation is one-way: {fetched}");
}
