//! Trust bundles from outside: what `eastwest ca bundle` and the pages of a server give to those who shall trust us.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Bench, clients::certificates};

/// The SPIFFE bundle that a command printed.
fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_bundle_is_the_same_from_the_directory_from_the_server_and_after_a_restart() {
    let bench = Bench::new();
    bench.run(&["ca", "bundle"]).failure(2, &["eastwest ca init"]);
    bench.run(&["ca", "init"]).success();
    let offline = document(bench.run(&["ca", "bundle", "-o", "spiffe"]).success());
    let key = &offline["keys"][0];
    assert_eq!((&key["kty"], &key["use"], &key["kid"]), (&json!("EC"), &json!("x509-svid"), &Value::Null));
    assert_eq!(offline["spiffe_refresh_hint"], 300);
    assert!(offline["spiffe_sequence"].is_u64());

    for start in ["first", "second"] {
        let server = bench.serve(&[]);
        assert_eq!(server.json("/bundle"), offline, "{start}");
        let url = server.url();
        let asked = bench.run(&["ca", "bundle", "--format", "jwks", "--server", &url]);
        assert_eq!(document(asked.success()), offline, "{start}");
        let pem = bench.run(&["ca", "bundle", "--server", &url]);
        assert_eq!(certificates(pem.success()), certificates(&bench.root()));
        server.stop();
    }

    // Another root: another, greater number. The record is lost with the state; time still makes it rise.
    fs::remove_dir_all(bench.state()).unwrap();
    bench.run(&["ca", "init"]).success();
    let next = document(bench.run(&["ca", "bundle", "-o", "spiffe"]).success());
    assert_ne!(next["keys"], offline["keys"]);
    assert!(next["spiffe_sequence"].as_u64() > offline["spiffe_sequence"].as_u64(), "{next} after {offline}");
}

#[test]
fn a_server_that_is_none_of_ours_is_named() {
    let bench = Bench::new();
    bench
        .run(&["ca", "bundle", "--server", "http://127.0.0.1:1"])
        .failure(2, &["127.0.0.1:1", "eastwest serve"]);
    bench.run(&["ca", "bundle", "-o", "der"]).failure(2, &["--format", "pem", "spiffe"]);
}

#[test]
fn mistakes_about_bundles_are_reported_together() {
    let bench = Bench::new();
    let flags = [
        "--bundle-addr",
        "here",
        "--bundle-cert",
        "web.pem",
        "--bundle-refresh-hint",
        "1500ms",
        "--federate",
        "b.example=http://b.example/bundle",
        "--federate",
        "c.example=https://user@c.example/",
        "--federate",
        "d.example=d.json",
        "--federate",
        "d.example=other.json",
    ];
    bench.refused(&flags).failure(
        2,
        &[
            "--bundle-addr: \"here\"",
            "--bundle-key",
            "--bundle-refresh-hint: 1.5s",
            "only https://",
            "user information",
            "d.example is named twice",
        ],
    );
    bench.refused(&["--bundle-key", "key.pem"]).failure(2, &["--bundle-cert", "--bundle-key needs it"]);
    let own = ["--federate", "cluster.local=https://b.example/"];
    bench.refused(&own).failure(1, &["--federate", "cluster.local is our own trust domain"]);
    let missing = ["--federate", "b.example=https://b.example/,id=spiffe://b.example/s,bundle=gone.json"];
    bench.refused(&missing).failure(1, &["--federate", "gone.json"]);
    let files = ["--bundle-addr", "127.0.0.1:0", "--bundle-cert", "gone.pem", "--bundle-key", "gone.pem"];
    bench.refused(&files).failure(2, &["--bundle-cert", "gone.pem"]);
}
