//! `eastwest ca serve`, `wait-ready` and `issue`: the CA without a mesh, as a CI job uses it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eastwest_ca::{CertificateSummary, PrivateKey};
use eastwest_tests::{process::Process, programs};
use nix::sys::signal::Signal;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{
    Bench, PATIENCE,
    clients::{certificates, tls},
    mode,
};

/// Every port is one that is free.
const FREE: [(&str, &str); 2] =
    [("EASTWEST_GRPC_TLS_ADDR", "127.0.0.1:0"), ("EASTWEST_HTTP_ADDR", "127.0.0.1:0")];
/// What golden tests elsewhere may rely on.
const TEST_ROOT: &str = "4ceb183227bfcd23cc688b7752596b30fbe6687bbd47b0e3d7ce20babbe1c1a4";

/// A running `eastwest ca serve`.
struct CaServer {
    process: Process,
    tls: SocketAddr,
    http: SocketAddr,
    trust_domain: String,
    state: PathBuf,
}

impl CaServer {
    fn start(bench: &Bench, flags: &[&str]) -> Self {
        Self::start_with(bench, flags, &[])
    }

    fn start_with(bench: &Bench, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = bench.command(&[&["ca", "serve"], flags].concat());
        command.envs(FREE).envs(variables.iter().copied());
        Self::spawn(bench, command)
    }

    fn spawn(bench: &Bench, command: Command) -> Self {
        let log = tempfile::Builder::new().prefix("ca").suffix(".log").tempfile_in(bench.path("")).unwrap();
        let log = log.into_temp_path().keep().unwrap();
        let mut process = Process::spawn("eastwest ca serve", command, &log).unwrap();
        let line = process.wait_for_line("eastwest ready", PATIENCE).unwrap();
        let word = |name: &str| {
            let mut words = line.split(' ').filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            words.next().unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
        };
        Self {
            tls: word("tls").parse().unwrap(),
            http: word("http").parse().unwrap(),
            trust_domain: word("trust-domain"),
            state: bench.path(&word("state")),
            process,
        }
    }

    fn page(&self, path: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.http).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn debug(&self) -> Value {
        serde_json::from_str(&self.page("/debug/ca").1).unwrap()
    }

    fn fingerprint(&self) -> String {
        self.debug()["roots"][0]["sha256"].as_str().unwrap().to_owned()
    }

    /// `eastwest ca issue` here, into `out`.
    fn issue(&self, out: &str, flags: &[&str]) -> Vec<String> {
        let state = self.state.display().to_string();
        let server = self.tls.to_string();
        let mut arguments = vec!["ca", "issue", "--out", out, "-o", "json"];
        for (flag, value) in [("--server", server.as_str()), ("--state-dir", &state)] {
            if !flags.contains(&flag) {
                arguments.extend([flag, value]);
            }
        }
        arguments.iter().chain(flags).map(|&word| word.to_owned()).collect()
    }

    fn stop(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        assert!(self.process.wait(PATIENCE).unwrap().success(), "{}", self.process.output());
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The leaf in a folder that `ca issue` wrote.
fn leaf(folder: &Path) -> CertificateSummary {
    let chain = fs::read_to_string(folder.join("cert-chain.pem")).unwrap();
    CertificateSummary::of(&certificates(&chain)[0]).unwrap()
}

/// Seconds from now to the end of the leaf's life.
fn remaining(leaf: &CertificateSummary) -> i64 {
    (OffsetDateTime::parse(&leaf.not_after, &Rfc3339).unwrap() - OffsetDateTime::now_utc()).whole_seconds()
}

#[test]
fn a_ci_job_gets_a_certificate_in_three_commands_and_nothing_stays_behind() {
    let bench = Bench::new();
    let ca = CaServer::start(&bench, &["--ephemeral"]);
    let waited = bench.run(&["ca", "wait-ready", "--server", &ca.http.to_string()]);
    assert!(waited.success().contains("is ready"), "{}", waited.out);
    let issued = bench.run(&words(&ca.issue("certs", &["--service-account", "shop/reviews"])));
    let identity = format!("spiffe://{}/ns/shop/sa/reviews", ca.trust_domain);
    issued.success();
    assert_eq!(issued.json()["identity"], identity);
    assert_eq!(issued.json()["private_key"], "certs/key.pem");
    let leaf = leaf(&bench.path("certs"));
    assert_eq!(leaf.names, [identity]);
    assert!((590..=600).contains(&remaining(&leaf)), "10 minutes: {}", remaining(&leaf));
    assert_eq!((mode(&bench.path("certs")), mode(&bench.path("certs/key.pem"))), (0o700, 0o600));
    let (root, anchor) = (bench.path("certs/root-cert.pem"), ca.state.join("root-cert.pem"));
    assert_eq!(
        certificates(&fs::read_to_string(root).unwrap()),
        certificates(&fs::read_to_string(anchor).unwrap())
    );
    assert!(!bench.state().exists(), "the state directory of others is not touched");
    let state = ca.state.clone();
    assert_eq!(mode(&state), 0o700);
    ca.stop();
    assert!(!state.exists(), "{}", state.display());
}

#[test]
fn each_ephemeral_run_has_a_root_and_a_trust_domain_of_its_own() {
    let bench = Bench::new();
    let [one, two] = [(); 2].map(|()| CaServer::start(&bench, &["--ephemeral"]));
    assert_ne!(one.trust_domain, two.trust_domain);
    assert!(one.trust_domain.starts_with("ci-") && one.trust_domain.ends_with(".test"));
    assert_ne!(one.fingerprint(), two.fingerprint());
    // The token of the other run has an unknown signer.
    let token = bench.run(&[
        "token",
        "--service-account",
        "shop/reviews",
        "--state-dir",
        two.state.to_str().unwrap(),
    ]);
    let token = token.success().trim();
    let refused =
        bench.run(&words(&one.issue("certs", &["--service-account", "shop/reviews", "--token", token])));
    let error = refused.failure(1, &["is the token fresh"]);
    assert!(!error.contains(token), "no token in an error: {error}");
    assert!(!bench.path("certs/key.pem").exists(), "nothing is written without a certificate");
}

#[test]
fn the_trust_domain_and_the_root_of_a_state_directory_stay() {
    let bench = Bench::new();
    let first = CaServer::start(&bench, &["--trust-domain", "run-7.example"]);
    assert_eq!((first.trust_domain.as_str(), &first.state), ("run-7.example", &bench.state()));
    let root = first.fingerprint();
    first.stop();
    let again = CaServer::start(&bench, &["--trust-domain", "run-7.example", "--cert-ttl", "5m"]);
    assert_eq!(again.fingerprint(), root);
    bench.run(&words(&again.issue("certs", &["spiffe://run-7.example/ns/shop/sa/reviews"]))).success();
    assert!((290..=300).contains(&remaining(&leaf(&bench.path("certs")))));
    bench
        .run(&words(&again.issue("certs", &["spiffe://other.example/ns/shop/sa/reviews"])))
        .failure(1, &["spiffe://other.example/ns/shop/sa/reviews was asked for"]);
    // Offline, the root says the trust domain.
    let offline =
        bench.run(&["ca", "issue", "--service-account", "shop/reviews", "--out", "offline", "-o", "json"]);
    offline.success();
    assert_eq!(offline.json()["identity"], "spiffe://run-7.example/ns/shop/sa/reviews");
}

/// A directory that served a given root says which, and how to go on.
#[test]
fn a_root_that_was_given_is_asked_for_again() {
    let bench = Bench::new();
    let (certificate, _) = some_root(&bench);
    let root = CertificateSummary::of(&certificates(&certificate)[0]).unwrap();
    let given = ["--root-cert", "origin/ca-cert.pem", "--root-key", "origin/ca-key.pem"];
    CaServer::start(&bench, &given).stop();
    let ways = ["--root-cert and --root-key", "EASTWEST_ROOT_CERT_PEM", "--ca-dir", "remove this file"];
    let told = [&["root-cert.pem", root.subject.as_str(), root.sha256.as_str()], &ways[..]].concat();
    bench.run_with(&["ca", "serve"], &FREE).failure(1, &told);
    bench.refused(&[]).failure(1, &told);
    CaServer::start(&bench, &given).stop();
    fs::remove_file(bench.state().join("root-cert.pem")).unwrap();
    assert_ne!(CaServer::start(&bench, &[]).fingerprint(), root.sha256);
}

/// Certificate and key of a root, PEM.
fn some_root(bench: &Bench) -> (String, String) {
    bench.run(&["ca", "init", "--state-dir", "origin"]).success();
    let read = |name: &str| fs::read_to_string(bench.path("origin").join(name)).unwrap();
    (read("ca-cert.pem"), read("ca-key.pem"))
}

#[test]
fn a_root_comes_from_files_or_from_the_environment_and_its_key_is_shown_nowhere() {
    let bench = Bench::new();
    let (certificate, key) = some_root(&bench);
    let wanted = CertificateSummary::of(&certificates(&certificate)[0]).unwrap().sha256;
    let by_files = ["--ephemeral", "--root-cert", "origin/ca-cert.pem", "--root-key", "origin/ca-key.pem"];
    let by_environment =
        [("EASTWEST_ROOT_CERT_PEM", certificate.as_str()), ("EASTWEST_ROOT_KEY_PEM", key.as_str())];
    for (flags, variables) in [(&by_files[..], &[][..]), (&by_files[..1], &by_environment[..])] {
        let ca = CaServer::start_with(&bench, flags, variables);
        assert_eq!(ca.fingerprint(), wanted);
        bench.run(&words(&ca.issue("certs", &["--service-account", "shop/reviews"]))).success();
        let secret = key.lines().nth(1).unwrap();
        let pages = ["/debug/ca", "/debug/list", "/metrics", "/readyz"].map(|path| ca.page(path).1).concat();
        let said = format!("{pages}{}", ca.process.output());
        assert!(!said.contains(secret) && !said.contains("PRIVATE"), "{said}");
        assert!(!ca.state.join("ca-key.pem").exists(), "a given key is not written down");
    }
}

#[test]
fn unusable_roots_are_reported_with_a_remedy() {
    let bench = Bench::new();
    let (certificate, key) = some_root(&bench);
    let other = PrivateKey::generate().unwrap().to_pem().to_string();
    let refused = |flags: &[&str], variables: &[(&str, &str)], code, texts: &[&str]| {
        let variables = [&FREE[..], variables].concat();
        let finished = bench.run_with(&[&["ca", "serve"], flags].concat(), &variables);
        let error = finished.failure(code, texts);
        assert!(!error.contains(key.lines().nth(1).unwrap()), "{error}");
    };
    let [cert_pem, key_pem] = ["EASTWEST_ROOT_CERT_PEM", "EASTWEST_ROOT_KEY_PEM"];
    refused(&["--root-cert", "origin/ca-cert.pem"], &[], 2, &["--root-key", "name this file too"]);
    refused(
        &["--root-cert", "nowhere", "--root-key", "origin/ca-key.pem"],
        &[],
        2,
        &["--root-cert: nowhere"],
    );
    refused(&[], &[(cert_pem, &certificate)], 2, &["EASTWEST_ROOT_KEY_PEM", "is not set"]);
    refused(&["--insecure-test-root"], &[(cert_pem, &certificate)], 2, &["more than one root", "name one"]);
    refused(&["--ephemeral"], &[(cert_pem, &certificate), (key_pem, &other)], 1, &[cert_pem, "root"]);
    refused(&["--ephemeral"], &[(cert_pem, &key), (key_pem, &key)], 1, &["the root's certificate"]);
    refused(
        &["--state-dir", "origin", "--insecure-test-root"],
        &[],
        1,
        &["a root of its own", "--ephemeral"],
    );
    let all =
        ["--trust-domain", "TD", "--cert-ttl", "soon", "--grpc-tls-addr", "here", "--serving-name", "a b"];
    refused(&all, &[], 2, &["--trust-domain", "--cert-ttl", "--grpc-tls-addr", "--serving-name"]);
}

#[test]
fn the_test_root_is_always_the_same_and_says_loudly_what_it_is() {
    let bench = Bench::new();
    for (flags, fingerprint) in
        [(&["--ephemeral"][..], None), (&["--ephemeral", "--insecure-test-root"], Some(TEST_ROOT))]
    {
        let ca = CaServer::start(&bench, flags);
        let insecure = fingerprint.is_some();
        let (_, metrics) = ca.page("/metrics");
        assert!(
            metrics.contains(&format!("\neastwest_insecure_test_root {}\n", u8::from(insecure))),
            "{metrics}"
        );
        assert_eq!(ca.debug()["insecure_test_root"], insecure);
        assert_eq!(ca.debug()["warning"].is_string(), insecure);
        let output = ca.process.output();
        assert_eq!(
            output.matches("INSECURE TEST ROOT").count(),
            if insecure { 2 } else { 0 },
            "log, banner: {output}"
        );
        assert_eq!(output.contains("insecure-test-root=true"), insecure);
        if let Some(fingerprint) = fingerprint {
            assert_eq!(ca.fingerprint(), fingerprint);
            let subject = ca.debug()["roots"][0]["subject"].as_str().unwrap().to_owned();
            assert!(subject.contains("eastwest INSECURE TEST ROOT"), "{subject}");
        }
    }
}

#[test]
fn the_test_root_serves_this_machine_alone_however_it_came() {
    let bench = Bench::new();
    let test_root =
        |name: &str| format!("{}/../ca/server/src/trust/test_root/{name}", env!("CARGO_MANIFEST_DIR"));
    let (certificate, key) = (test_root("root-cert.pem"), test_root("root-key.pem"));
    let by_files = ["--ephemeral", "--root-cert", &certificate, "--root-key", &key];
    let everywhere = [("EASTWEST_GRPC_TLS_ADDR", "0.0.0.0:0"), FREE[1]];
    for (flags, code) in [(&["--ephemeral", "--insecure-test-root"][..], 2), (&by_files, 1)] {
        let arguments = [&["ca", "serve"], flags].concat();
        bench.run_with(&arguments, &everywhere).failure(code, &["loopback", "--insecure-allow-remote"]);
        let told = [flags, &["--insecure-allow-remote"]].concat();
        assert_eq!(CaServer::start_with(&bench, &told, &everywhere).debug()["insecure_test_root"], true);
    }
}

#[test]
fn wait_ready_waits_for_a_server_that_comes_and_says_why_when_none_does() {
    let bench = Bench::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = port.to_string();
    let waiting = ["ca", "wait-ready", "--server", &server];
    bench
        .run(&[&waiting[..], &["--timeout", "200ms"]].concat())
        .failure(1, &[&server, "is not ready after 200ms", "refused"]);
    // A port that accepts connections and sends nothing is not ready either.
    let silent = TcpListener::bind(port).unwrap();
    bench.run(&[&waiting[..], &["--timeout", "200ms"]].concat()).failure(1, &["it does not answer"]);
    drop(silent);
    let log = bench.path("wait.log");
    let mut command = bench.command(&waiting);
    command.env("EASTWEST_WAIT_TIMEOUT", "20s");
    let mut waits = Process::spawn("eastwest ca wait-ready", command, &log).unwrap();
    assert!(waits.ended().unwrap().is_none());
    let _ca = CaServer::start(&bench, &["--ephemeral", "--http-addr", &server]);
    assert!(waits.wait(PATIENCE).unwrap().success(), "{}", waits.output());
    bench
        .run(&["ca", "wait-ready", "--server", "https://127.0.0.1:1", "--timeout", "never"])
        .failure(2, &["--server", "--timeout"]);
}

#[test]
fn mistakes_in_a_request_to_a_server_are_reported_with_a_remedy() {
    let bench = Bench::new();
    let ca = CaServer::start(&bench, &["--ephemeral"]);
    let reviews = ["--service-account", "shop/reviews"];
    let order = |flags: &[&str]| bench.run(&words(&ca.issue("certs", flags)));
    order(&[]).failure(2, &["SPIFFE-ID", "--service-account"]);
    order(&["--service-account", "reviews", "--ttl", "long"]).failure(2, &["--service-account", "--ttl"]);
    order(&["spiffe://a.test/ns/shop/sa/reviews", "--service-account", "shop/reviews"])
        .failure(2, &["twice"]);
    order(&[&reviews[..], &["--state-dir", "nowhere"]].concat()).failure(2, &["--token-file"]);
    order(&[&reviews[..], &["--ca-root", "nowhere"]].concat()).failure(2, &["nowhere", "--ca-root"]);
    order(&[&reviews[..], &["--token-file", "nowhere"]].concat()).failure(2, &["nowhere", "--token-file"]);
    order(&[&reviews[..], &["--server-name", "vault.example"]].concat()).failure(2, &["--server-name"]);
    order(&[&reviews[..], &["--ttl", "91d"]].concat()).failure(2, &["invalid argument", "maximum"]);
    order(&[&reviews[..], &["--server", "127.0.0.1:1"]].concat()).failure(2, &["is --server right?"]);
    order(&[&reviews[..], &["--server", "here"]].concat()).failure(2, &["--server", "HOST:PORT"]);
    // The token is for another service account than the one that was asked for.
    let token =
        bench.run(&["token", "--service-account", "shop/ratings", "--state-dir", ca.state.to_str().unwrap()]);
    order(&[&reviews[..], &["--token", token.success().trim()]].concat())
        .failure(1, &["sa/ratings", "was asked for"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_alone_lists_what_it_serves_and_no_xds() {
    let bench = Bench::new();
    let ca = CaServer::start(&bench, &["--ephemeral"]);
    let root = fs::read_to_string(ca.state.join("root-cert.pem")).unwrap();
    let mut reflection = ServerReflectionClient::new(tls(ca.tls, &root, None).await.unwrap());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { message_request, ..Default::default() };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    let wanted =
        ["eastwest.v1.WorkloadIdentity", "grpc.health.v1.Health", "istio.v1.auth.IstioCertificateService"];
    assert_eq!(names, wanted);
}

/// CA.md B44: keys are never in a core dump.
#[test]
fn a_crash_leaves_no_core_dump() {
    let bench = Bench::new();
    let mut command = Command::new("sh");
    let script = "ulimit -c unlimited; exec \"$0\" ca serve --ephemeral";
    command
        .args(["-c", script])
        .arg(programs::eastwest().unwrap())
        .env_clear()
        .envs(FREE)
        .current_dir(bench.path(""));
    let mut ca = CaServer::spawn(&bench, command);
    ca.process.signal(Signal::SIGABRT).unwrap();
    let status = ca.process.wait(Duration::from_secs(10)).unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::SIGABRT as i32), false));
    fs::remove_dir_all(&ca.state).unwrap();
}
