//! Settings and state that `eastwest` cannot work with: what is wrong, where, and what to do.

use std::fs;

use crate::harness::{Bench, set_mode};

#[test]
fn all_mistakes_are_reported_at_once_with_their_flags() {
    let bench = Bench::new();
    let refused = bench.refused(&[
        "--trust-domain",
        "UPPER",
        "--grpc-addr",
        "somewhere",
        "--grpc-tls-addr",
        "127.0.0.1",
        "--http-addr",
        "127.0.0.1:99999",
        "--cert-ttl",
        "soon",
        "--serving-name",
        "a b",
        "--token-issuer",
        "kubernetes/serviceaccount",
        "--trusted-node-account",
        "ztunnel",
    ]);
    let flags = [
        "error: --trust-domain: ",
        "error: --grpc-addr: \"somewhere\"",
        "error: --grpc-tls-addr: \"127.0.0.1\"",
        "error: --http-addr: \"127.0.0.1:99999\"",
        "error: --cert-ttl: \"soon\"",
        "error: --serving-name: ",
        "error: --token-jwks: ",
        "error: --trusted-node-account: \"ztunnel\"",
    ];
    let errors = refused.failure(2, &flags);
    assert_eq!(errors.lines().count(), flags.len(), "a line each: {errors}");
    assert!(!bench.state().exists(), "nothing was begun");
}

/// Whoever gives them thinks of another mode, and would not notice that they are ignored.
#[test]
fn flags_of_the_other_mode_are_refused_with_both_names() {
    let bench = Bench::new();
    let refused = bench.refused(&["--namespace", "mesh", "--leader-elect=false"]);
    let errors = refused.failure(2, &["error: --namespace: ", "error: --leader-elect: ", "--config-dir"]);
    assert_eq!(errors.lines().filter(|line| line.starts_with("error: ")).count(), 2, "{errors}");
    assert!(errors.contains("note: --config-dir is set by the variable EASTWEST_CONFIG_DIR"), "{errors}");
    bench.run(&["serve", "--namespace", "A b"]).failure(2, &["error: --namespace: \"A b\" is no namespace"]);
}

#[test]
fn a_mistake_in_the_environment_is_reported_with_its_flag() {
    let bench = Bench::new();
    let variables = [("EASTWEST_CONFIG_DIR", "manifests"), ("EASTWEST_MAX_CERT_TTL", "never")];
    bench.run_with(&["serve"], &variables).failure(2, &["--max-cert-ttl", "\"never\"", "90d"]);
}

#[test]
fn lifetimes_that_contradict_each_other_are_refused() {
    let bench = Bench::new();
    let refused = bench.refused(&["--min-cert-ttl", "2h", "--cert-ttl", "1h"]);
    refused.failure(2, &["--cert-ttl", "--min-cert-ttl"]);
}

#[test]
fn without_a_directory_the_remedy_is_named() {
    let bench = Bench::new();
    bench.run(&["serve"]).failure(2, &["--config-dir", "--kubeconfig"]);
    bench.run(&["serve", "--kubeconfig", "nowhere"]).failure(2, &["nowhere"]);
    bench.refused(&["--config-dir", "nowhere"]).failure(2, &["--config-dir", "nowhere", "directory"]);
    bench.run(&["check", "--config-dir", "nowhere"]).failure(2, &["--config-dir", "nowhere", "directory"]);
}

#[test]
fn an_error_says_everything_once() {
    let bench = Bench::new();
    let refused = bench.refused(&["--config-dir", "nowhere"]);
    assert_eq!(refused.failure(2, &[]).matches("No such file").count(), 1, "{}", refused.err);
}

#[test]
fn a_port_in_use_is_reported_with_its_flag_and_a_remedy() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--grpc-addr", "--grpc-tls-addr", "--http-addr"] {
        let refused = bench.refused(&[flag, &address]);
        refused.failure(1, &[flag, &address, "in use", "Choose another address"]);
    }
}

#[test]
fn a_state_directory_open_to_others_is_refused_with_the_remedy() {
    let bench = Bench::new();
    bench.run(&["ca", "init"]).success();
    set_mode(&bench.state(), 0o750);
    bench.refused(&[]).failure(1, &["state", "750", "chmod 700"]);
    bench.run(&["token", "--service-account", "a/b"]).failure(1, &["chmod 700"]);
    set_mode(&bench.state(), 0o700);

    let key = bench.state().join("ca-key.pem");
    set_mode(&key, 0o640);
    bench.refused(&[]).failure(1, &["ca-key.pem", "640", "chmod 600"]);
    set_mode(&key, 0o600);
    bench.serve(&[]).stop();
}

#[test]
fn half_a_key_pair_is_refused_and_left_as_it_is() {
    for lost in ["ca-key.pem", "ca-cert.pem"] {
        let bench = Bench::new();
        bench.run(&["ca", "init"]).success();
        fs::remove_file(bench.state().join(lost)).unwrap();
        bench.refused(&[]).failure(1, &[lost, "missing", "restore"]);
        assert!(!bench.state().join(lost).exists(), "a new {lost} would lose the mesh its root");
    }
}

#[test]
fn a_cut_off_key_or_certificate_is_refused_by_name() {
    for (cut, length) in
        [("ca-key.pem", 100), ("ca-cert.pem", 100), ("ca-key.pem", 0), ("token-key.pem", 100)]
    {
        let bench = Bench::new();
        bench.run(&["ca", "init"]).success();
        let path = bench.state().join(cut);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..length]).unwrap();
        let refused = bench.refused(&[]);
        let errors = refused.failure(1, &[cut, "restore"]);
        assert!(!errors.contains(text.lines().nth(1).unwrap()), "a key in the error: {errors}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (bench, other) = (Bench::new(), Bench::new());
    bench.run(&["ca", "init"]).success();
    other.run(&["ca", "init"]).success();
    fs::copy(other.state().join("ca-key.pem"), bench.state().join("ca-key.pem")).unwrap();
    bench.refused(&[]).failure(1, &["ca-cert.pem", "ca-key.pem", "restore"]);
    bench.run(&["ca", "show"]).failure(1, &["ca-cert.pem", "ca-key.pem"]);
}

#[test]
fn a_second_server_on_the_same_state_is_refused_and_the_first_goes_on() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    bench.refused(&[]).failure(1, &["state", "another eastwest", "--state-dir"]);
    assert_eq!(server.page("/readyz").0, 200);
    server.stop();
    bench.serve(&[]).stop();
}

#[test]
fn an_unusable_token_issuer_is_refused_by_its_flag() {
    let bench = Bench::new();
    let issuer = ["--token-issuer", "https://issuer.example", "--token-jwks"];
    bench.refused(&[&issuer[..], &["nowhere.json"]].concat()).failure(2, &["--token-jwks", "nowhere.json"]);
    fs::write(bench.path("keys.json"), "{").unwrap();
    bench.refused(&[&issuer[..], &["keys.json"]].concat()).failure(1, &["--token-jwks", "keys.json"]);
    bench.refused(&["--token-jwks", "keys.json"]).failure(2, &["--token-issuer"]);
}
