//! Files that are followed while a server runs: a bad file is reported and changes nothing, a good one is used.

use std::{fs, net::SocketAddr, sync::Arc};

use eastwest_tests::process::until;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Bench, PATIENCE, Server, clients::certificates};

const RULES: &str = r"
rules:
- {name: deploy, issuer: https://ci.example, audience: eastwest, jwks: jobs.json,
   match: {repository: acme/shop}, namespace: ci, serviceAccount: deploy, maxTTL: 15m}
";

/// A certificate for localhost that signs itself, and its key.
fn pair() -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    [made.cert.pem(), made.signing_key.serialize_pem()]
}

/// Whether `root` verifies the certificate of the endpoint.
async fn shows(address: SocketAddr, root: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(root));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.is_ok()
}

/// The problem with a subject on /debug/ca.
fn problem(server: &Server, subject: &str) -> Option<Value> {
    let page = server.json("/debug/ca");
    page["source_problems"].as_array().unwrap().iter().find(|one| one["subject"] == subject).cloned()
}

/// Waits until page and metrics report a problem with `subject` whose message has `texts`.
fn told(server: &Server, subject: &str, texts: &[&str]) {
    let found = until(subject, PATIENCE, || Ok(problem(server, subject))).unwrap();
    let said = |text: &&str| found.to_string().contains(*text);
    assert!(texts.iter().all(said) && found["since"].is_string(), "{found:#}");
    let (_, metrics) = server.page("/metrics");
    let line = format!("eastwest_source_problems{{subject=\"{subject}\"}} 1\n");
    assert!(metrics.contains(&line), "{metrics}");
}

fn solved(server: &Server, subject: &str) {
    until(subject, PATIENCE, || Ok(problem(server, subject).is_none().then_some(()))).unwrap();
    let (_, metrics) = server.page("/metrics");
    let line = format!("eastwest_source_problems{{subject=\"{subject}\"}} 0\n");
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_reported_until_it_is_corrected_and_a_good_one_is_used() {
    let bench = Bench::new();
    drop(bench.serve(&[]));
    let jwks = fs::read_to_string(bench.state().join("token-jwks.json")).unwrap();
    let [first, second] = [pair(), pair()];
    let write = |name: &str, text: &str| fs::write(bench.path(name), text).unwrap();
    let show = |pair: &[String; 2]| {
        write("web.pem", &pair[0]);
        write("web-key.pem", &pair[1]);
    };
    for name in ["jobs.json", "cluster.json"] {
        write(name, &jwks);
    }
    write("jobs.yaml", RULES);
    show(&first);
    let server = bench.serve(&[
        "--oidc-rules",
        "jobs.yaml",
        "--token-issuer",
        "https://cluster",
        "--token-jwks",
        "cluster.json",
        "--bundle-addr",
        "127.0.0.1:0",
        "--bundle-cert",
        "web.pem",
        "--bundle-key",
        "web-key.pem",
    ]);
    let endpoint = server.bundle.expect("the bundle endpoint is told");
    assert!(shows(endpoint, &first[0]).await && !shows(endpoint, &second[0]).await);
    assert_eq!(server.json("/debug/ca")["source_problems"], serde_json::json!([]));

    write("jobs.yaml", &RULES.replace("acme/shop", "*"));
    told(&server, "oidc-rules", &["jobs.yaml", "repository", "the rules before stay"]);
    write("cluster.json", "{");
    told(&server, "token-keys", &["cluster.json", "https://cluster", "the keys before stay"]);
    write("web.pem", &second[0]);
    told(&server, "bundle-certificate", &["web.pem", "web-key.pem", "the last good certificate stays"]);
    assert!(shows(endpoint, &first[0]).await);

    write("jobs.yaml", RULES);
    write("cluster.json", &jwks);
    write("web-key.pem", &second[1]);
    for subject in ["oidc-rules", "token-keys", "bundle-certificate"] {
        solved(&server, subject);
    }
    assert!(shows(endpoint, &second[0]).await && !shows(endpoint, &first[0]).await, "the new pair is shown");
}
