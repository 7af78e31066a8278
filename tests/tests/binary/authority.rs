//! A certificate authority as people have it: made with OpenSSL and constrained, in a directory of a volume, of another trust
//! domain, for clients that know names of hosts alone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use eastwest_tests::programs;
use tonic::Code;

use crate::harness::{
    Bench, Finished,
    clients::{certificates, certify, tls},
    mode,
    plugged::{Place, problem},
    set_mode,
};

/// The CA of `dir` in files with istiod's names, made with OpenSSL; the intermediate has `constraint`.
fn make_ca(dir: &Path, constraint: &str) {
    fs::create_dir_all(dir).unwrap();
    let script = format!(
        "printf '[ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n{constraint}\n' > ext
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root-cert.pem -days 30 \
             -subj /CN=Root
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca-key.pem -out csr -subj '/CN=Mesh CA'
         openssl x509 -req -in csr -CA root-cert.pem -CAkey root.key -CAcreateserial -days 30 -extfile ext -extensions ext \
             -out ca-cert.pem
         cat ca-cert.pem root-cert.pem > cert-chain.pem"
    );
    let made = Command::new("sh").args(["-ec", &script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// CA.md C38, with the whole program: what a constraint allows works, renewal too; what it does not is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_constrained_ca_works_or_is_refused_with_its_constraint() {
    for constraint in ["permitted;URI:cluster.local", "excluded;URI:evil.example"] {
        let place = Place::new();
        make_ca(&place.dir, &format!("nameConstraints=critical,{constraint}"));
        let server = place.serve();
        let (held, chain) = place.ask(&server).await;
        assert_eq!(chain.len(), 3, "leaf, intermediate, roots");
        let channel = tls(server.tls, &place.bench.root(), Some(&held)).await.unwrap();
        certify(channel, None, 0).await.unwrap_or_else(|status| panic!("{constraint}: renewal: {status}"));
        // The agent's own check of what it was given is the same as that of `ca issue`.
        let address = server.tls.to_string();
        let issue = [
            "ca",
            "issue",
            "--service-account",
            "bookshop/storefront",
            "--out",
            "certs",
            "--server",
            &address,
        ];
        place.bench.run(&issue).success();
        let verify = ["verify", "-CAfile", "root-cert.pem", "-untrusted", "cert-chain.pem", "cert-chain.pem"];
        let verified =
            Command::new("openssl").args(verify).current_dir(place.bench.path("certs")).output().unwrap();
        assert!(verified.status.success(), "{constraint}: {verified:?}");

        // Another CA that cannot work changes nothing, and the constraint is named.
        make_ca(&place.dir, "nameConstraints=critical,permitted;URI:corp.example");
        problem(
            &server,
            "plugged-in-ca",
            Some("permitted;URI:corp.example of CN=Mesh CA does not allow spiffe://cluster.local"),
        );
        place.ask(&server).await;
    }
    for (constraint, said) in [
        ("permitted;URI:corp.example", "have the CA certificate issued with permitted;URI:cluster.local"),
        ("permitted;DNS:.example.com", "name others with --serving-name"),
    ] {
        let place = Place::new();
        make_ca(&place.dir, &format!("nameConstraints={constraint}"));
        let refused =
            place.bench.refused(&["--ca-dir", "cacerts", "--serving-name", "istiod.istio-system.svc"]);
        refused.failure(1, &["cacerts: ca-cert.pem: the name constraint", constraint, said]);
    }
    let place = Place::new();
    make_ca(&place.dir, "nameConstraints=permitted;DNS:.example.com");
    place
        .bench
        .refused(&["--ca-dir", "cacerts"])
        .failure(1, &["give it names that the CA allows with --serving-name"]);
    place.bench.serve(&["--ca-dir", "cacerts", "--serving-name", "mesh.example.com"]).stop();
}

/// A client certificate below a satisfied constraint is judged in everything else as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_opens_nothing_to_others() {
    let (place, other) = (Place::new(), Place::new());
    for place in [&place, &other] {
        make_ca(&place.dir, "nameConstraints=critical,permitted;URI:cluster.local");
    }
    let (server, theirs) = (place.serve(), other.serve());
    let (foreign, _) = other.ask(&theirs).await;
    let channel = tls(server.tls, &place.bench.root(), Some(&foreign)).await.unwrap();
    assert_eq!(certify(channel, None, 0).await.map(|_| ()).unwrap_err().code(), Code::Unauthenticated);
}

/// Volumes come with modes of their own.
#[test]
fn an_empty_directory_of_ours_is_taken_and_any_other_refused() {
    for volume in [0o755, 0o750, 0o777, 0o2770, 0o700] {
        let bench = Bench::new();
        fs::create_dir(bench.state()).unwrap();
        fs::create_dir(bench.state().join("lost+found")).unwrap();
        set_mode(&bench.state(), volume);
        bench.run(&["ca", "init"]).success();
        let whole = fs::metadata(bench.state()).unwrap().permissions().mode() & 0o7777;
        assert_eq!(whole, 0o700, "{volume:o}");
    }
    let bench = Bench::new();
    bench.run(&["ca", "init"]).success();
    set_mode(&bench.state(), 0o755);
    bench.refused(&[]).failure(1, &["mode 755 lets others in; run: chmod 700"]);
    assert_eq!(
        mode(&bench.state()),
        0o755,
        "what is in it may have been read: that is for its owner to judge"
    );
    set_mode(&bench.state(), 0o700);
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED the directory of another user: only root can make one");
        return;
    }
    for mode in [0o700, 0o2770] {
        let bench = Bench::new();
        fs::create_dir(bench.state()).unwrap();
        set_mode(&bench.state(), mode);
        std::os::unix::fs::chown(bench.state(), Some(12345), None).unwrap();
        bench
            .run(&["ca", "init"])
            .failure(1, &["belongs to the user 12345 and not to 0", "chown 0 ", "chmod 700 "]);
    }
}

#[test]
fn nothing_is_made_that_no_server_knows() {
    let bench = Bench::new();
    let token = ["token", "--service-account", "shop/reviews"];
    let issue = |more: &[&str]| bench.run(&[&["ca", "issue", "--out", "certs"][..], more].concat());
    let account = ["--service-account", "shop/reviews"];
    let server = [&account[..], &["--server", "127.0.0.1:1"]].concat();
    for there in [false, true] {
        if there {
            fs::create_dir(bench.state()).unwrap();
        }
        bench.run(&token).failure(2, &["there is no CA in this directory", "eastwest ca init"]);
        issue(&account).failure(2, &["there is no CA in this directory"]);
        issue(&server).failure(2, &["--token-file: name a token for this identity, or with --state-dir"]);
        assert_eq!(bench.state().exists(), there);
    }
    assert_eq!(fs::read_dir(bench.state()).unwrap().count(), 0);
    assert!(!bench.path("certs").exists());
    bench.run(&["ca", "init"]).success();
    bench.run(&token).success();
}

#[test]
fn a_state_directory_of_another_trust_domain_is_refused() {
    let bench = Bench::new();
    bench.run(&["ca", "init", "--trust-domain", "one.example"]).success();
    let told =
        ["is that of the trust domain one.example", "start with --trust-domain one.example", "--state-dir"];
    bench.refused(&[]).failure(1, &told);
    let ports = [("EASTWEST_GRPC_TLS_ADDR", "127.0.0.1:0"), ("EASTWEST_HTTP_ADDR", "127.0.0.1:0")];
    bench.run_with(&["ca", "serve", "--trust-domain", "two.example"], &ports).failure(1, &told);
    bench.serve(&["--trust-domain", "one.example"]).stop();
    // A mesh configuration decides: a mesh may move to another trust domain with its root.
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                trustDomain: two.example\n";
    bench.write("mesh.yaml", mesh);
    bench.serve(&[]).stop();
}

#[test]
fn mistakes_at_the_command_line_are_named_for_what_they_are() {
    let bench = Bench::new();
    bench.run(&["ca", "init"]).success();
    let server = ["ca", "issue", "spiffe://cluster.local/foo", "--server", "127.0.0.1:1"];
    let said = bench.run(&server);
    let said = said.failure(2, &["SPIFFE-ID: ", "ns/", "--token-file"]);
    assert!(said.contains("SPIFFE-ID") && !said.contains("--token-file: name"), "{said}");
    let issue = |more: &[&str]| {
        bench.run(
            &[&["ca", "issue", "--service-account", "shop/reviews", "--out", "certs"][..], more].concat(),
        )
    };
    issue(&["--ttl", "100d"])
        .failure(2, &["--ttl: ", "100d is more than the maximum of 90d", "raise --max-cert-ttl"]);
    issue(&["--ttl", "100d", "--max-cert-ttl", "100d"]).success();
    for account in ["A/b", "a/B", "a/b/c"] {
        bench
            .run(&["token", "--service-account", account])
            .failure(2, &["--service-account: ", "shop/reviews"]);
    }
    issue(&["--ttl", "1s"]).failure(2, &["--ttl: ", "1s is less than the minimum of 10s"]);
    issue(&["--dns", "*.test"]).failure(2, &["--dns: ", "wildcards are not allowed"]);
    issue(&["--dns", "10.0.0.1"]).failure(2, &["--dns: ", "give it with --ip"]);
    let waiting = bench.run(&["ca", "wait-ready", "--server", "127.0.0.1:1", "--timeout", "1ms"]);
    let said = waiting.failure(1, &["127.0.0.1:1", "`eastwest ca serve`", "HTTP address"]);
    assert!(!said.contains("--config-dir"), "{said}");
    let key = bench.state().join("token-key.pem");
    fs::write(&key, "").unwrap();
    let said = bench.run(&["token", "--service-account", "shop/reviews"]);
    let said = said
        .failure(1, &["token-key.pem: not a private key", "or remove it: the next start makes a new one"]);
    assert!(!said.contains("new root"), "{said}");
    fs::remove_file(&key).unwrap();
    bench.serve(&[]).stop();
}

/// A server under its names, for clients in Python that know nothing of SPIFFE.
const PYTHON: &str = r#"
import http.server, ssl, sys, threading, urllib.error, urllib.request
from concurrent import futures
import grpc

named, unnamed = sys.argv[1:]
read = lambda directory, name: open(f"{directory}/{name}", "rb").read()

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

def https(directory):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/cert-chain.pem", f"{directory}/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]

def get(directory, host):
    context = ssl.create_default_context(cafile=f"{directory}/root-cert.pem")
    return urllib.request.urlopen(f"https://{host}:{https(directory)}/", context=context).status

def call(directory):
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Echo": echo}),))
    pair = (read(directory, "key.pem"), read(directory, "cert-chain.pem"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    credentials = grpc.ssl_channel_credentials(read(directory, "root-cert.pem"))
    options = [("grpc.ssl_target_name_override", "web.test")]
    for target, options in [(f"127.0.0.1:{port}", []), (f"127.0.0.1:{port}", options)]:
        with grpc.secure_channel(target, credentials, options) as channel:
            assert channel.unary_unary("/t.T/Echo")(b"x", timeout=10) == b"x"
    return "ok"

for host in ["localhost", "127.0.0.1"]:
    print("https", host, get(named, host))
try:
    import requests
    port = https(named)
    print("requests", requests.get(f"https://localhost:{port}/", verify=f"{named}/root-cert.pem").status_code)
except ImportError:
    print("SKIPPED requests: not installed")
print("grpc", call(named))
try:
    get(unnamed, "localhost")
    print("unnamed was accepted")
except urllib.error.URLError as error:
    print("unnamed:", error.reason.verify_message)
try:
    call(unnamed)
    print("unnamed grpc was accepted")
except grpc.RpcError as error:
    print("unnamed grpc:", error.code().name)
"#;

/// CA.md C39.
#[test]
fn python_verifies_a_ci_server_by_its_name() {
    let bench = Bench::new();
    let ports = [("EASTWEST_GRPC_TLS_ADDR", "127.0.0.1:0"), ("EASTWEST_HTTP_ADDR", "127.0.0.1:0")];
    let mut command = bench.command(&["ca", "serve"]);
    command.envs(ports);
    let log = bench.path("ca.log");
    let mut ca = eastwest_tests::process::Process::spawn("eastwest ca serve", command, &log).unwrap();
    let line = ca.wait_for_line("eastwest ready", crate::harness::PATIENCE).unwrap();
    let address = line.split(' ').find_map(|word| word.strip_prefix("tls=")).unwrap().to_owned();
    let issue = |out: &str, more: &[&str]| -> Finished {
        let usual = ["ca", "issue", "--server", &address, "--service-account", "shop/web", "--out", out];
        bench.run(&[&usual[..], more].concat())
    };
    issue("named", &["--dns", "web.test", "--dns", "localhost", "--ip", "127.0.0.1"]).success();
    issue("unnamed", &[]).success();
    issue("refused", &["--dns", "web.example"]).failure(2, &["web.example is not allowed", "--allow-dns"]);
    let chain = fs::read_to_string(bench.path("named/cert-chain.pem")).unwrap();
    let leaf = eastwest_ca::CertificateSummary::of(&certificates(&chain)[0]).unwrap();
    assert_eq!(leaf.names, ["spiffe://cluster.local/ns/shop/sa/web", "localhost", "web.test", "127.0.0.1"]);
    let found = bench.run(&["ca", "ledger", "query", "--serial", &leaf.serial, "-o", "json"]);
    assert_eq!(found.json()[0]["names"], serde_json::json!(["localhost", "web.test", "127.0.0.1"]));
    for (name, good) in [("web.test", true), ("other.test", false)] {
        let verify = ["verify", "-CAfile", "root-cert.pem", "-verify_hostname", name, "cert-chain.pem"];
        let verified =
            Command::new("openssl").args(verify).current_dir(bench.path("named")).output().unwrap();
        assert_eq!(verified.status.success(), good, "{name}: {verified:?}");
    }
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", programs::spiffe_for_python().unwrap()).args(["-c", PYTHON]);
    let said = python.arg(bench.path("named")).arg(bench.path("unnamed")).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["https localhost 200", "https 127.0.0.1 200"], "{text}");
    assert!(matches!(lines[2], "requests 200") || lines[2].starts_with("SKIPPED"), "{text}");
    assert_eq!(lines[3], "grpc ok", "{text}");
    assert!(lines[4].starts_with("unnamed: Hostname mismatch"), "{text}");
    assert_eq!(lines[5], "unnamed grpc: UNAVAILABLE", "{text}");
}
