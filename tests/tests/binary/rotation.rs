//! Rotation of the root: manual with a running server, and automatic.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    Bench, Server,
    clients::{Svid, certificates, certify, tls},
};

async fn ask(bench: &Bench, server: &Server, held: Option<&Svid>, seconds: i64) -> (Svid, Vec<String>) {
    let channel = tls(server.tls, &bench.root(), held).await.unwrap();
    let token = bench.token("bookshop/storefront");
    let token = held.is_none().then_some(token.as_str());
    certify(channel, token, seconds).await.unwrap()
}

fn step(bench: &Bench, step: &str, flags: &[&str]) -> Value {
    let finished = bench.run(&[&["ca", "rotate", "--step", step, "-o", "json"], flags].concat());
    finished.success();
    finished.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_hand_beside_a_running_server() {
    let bench = Bench::new();
    let server = bench.serve(&["--root-rotation", "manual"]);
    let old = certificates(&bench.root());
    let (held, _) = ask(&bench, &server, None, 12).await;

    let plan = bench.run(&["ca", "rotate"]);
    for text in ["a server runs", "root 1", "prepare", "publish", "activate", "retire", "automatic"] {
        assert!(plan.success().contains(text), "{text}: {}", plan.out);
    }
    bench
        .run(&["ca", "rotate", "--step", "activate"])
        .failure(1, &["activate", "run the step prepare first"]);
    assert_eq!(step(&bench, "prepare", &["--root-key-type", "p384"])["phase"], "prepared");
    bench.run(&["ca", "rotate", "--step", "activate"]).failure(1, &["run the step publish first"]);
    let (_, chain) = ask(&bench, &server, None, 12).await;
    assert_eq!(certificates(&chain[1]), old, "not published yet");

    let view = step(&bench, "publish", &[]);
    assert!(view["covered"].is_string(), "the server has taken it up: {view}");
    server.until("/debug/ca", |page| page["signing"]["rotation"]["phase"] == "published");
    // Signed by the old root, and still good when the new one signs.
    let (_, chain) = ask(&bench, &server, None, 25).await;
    let both = certificates(&chain[1]);
    assert_eq!((both.len(), &both[0]), (2, &old[0]), "both are in the bundle");
    assert_eq!(certificates(&bench.root()), both);
    let early = bench.run(&["ca", "rotate", "--step", "activate"]);
    early.failure(
        1,
        &["not safe before 20", "would reject all certificates", "Nothing was changed", "--wait"],
    );

    let view = step(&bench, "activate", &["--wait"]);
    assert_eq!((&view["phase"], &view["active"]["generation"]), (&"retiring".into(), &2.into()));
    // The serving certificate chains to the new root: clients with the old bundle alone must have renewed by now.
    let new = both[1].clone();
    let (fresh, chain) = ask(&bench, &server, None, 12).await;
    assert_eq!(certificates(&chain[1]), [new.clone(), old[0].clone()]);
    ask(&bench, &server, Some(&fresh), 12).await;
    drop(held);
    bench.run(&["ca", "rotate", "--step", "retire"]).failure(1, &["retire: not safe before"]);
    bench.run(&["ca", "rotate", "--step", "prepare"]).failure(1, &["run the step retire first"]);
    assert_eq!(step(&bench, "retire", &["--wait"])["phase"], "steady");
    // The trust anchor is written before a bundle is in force, and page and metrics tell of what is in force.
    server
        .until("/debug/ca", |page| page["signing"]["roots"].as_array().is_some_and(|roots| roots.len() == 1));
    assert_eq!(certificates(&bench.root()), std::slice::from_ref(&new));
    assert!(!bench.state().join("ca-key.pem").exists());
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("eastwest_ca_roots 1\n"), "{metrics}");
    drop(server);
    let server = bench.serve(&[]);
    let (_, chain) = ask(&bench, &server, None, 0).await;
    assert_eq!(certificates(&chain[1]), [new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_step_says_what_breaks() {
    let bench = Bench::new();
    let server = bench.serve(&["--root-rotation", "manual"]);
    let untouched = bench.run(&["ca", "rotate"]);
    assert!(untouched.success().contains("issued until     nothing was issued yet"), "{untouched:?}");
    ask(&bench, &server, None, 0).await;
    step(&bench, "prepare", &[]);
    step(&bench, "publish", &[]);
    let forced = bench.run(&["ca", "rotate", "--step", "activate", "--force"]);
    assert!(forced.success().contains("root 2"), "{forced:?}");
    assert!(
        forced.err.contains("warning: forced") && forced.err.contains("would reject all certificates"),
        "{forced:?}"
    );
    bench.run(&["ca", "rotate", "--step", "publish", "--force"]).failure(1, &["there is no next root"]);
    bench.run(&["ca", "rotate", "--step", "soon"]).failure(2, &["prepare", "abandon"]);
}

/// Short-lived roots follow each other by themselves while a client renews: each bundle that it ever got verifies what
/// the server shows next, and each certificate it holds is good.
#[tokio::test(flavor = "multi_thread")]
async fn roots_follow_each_other_by_themselves() {
    let bench = Bench::new();
    let server = bench.serve(&["--root-ttl", "30s", "--cert-ttl", "2s", "--min-cert-ttl", "1s"]);
    let (mut held, mut chain) = ask(&bench, &server, None, 0).await;
    let mut roots = BTreeSet::new();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    while roots.len() < 4 {
        assert!(tokio::time::Instant::now() < deadline, "{} roots: {}", roots.len(), server.output());
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        // As an agent does: trusting what the last answer said, with the last certificate.
        let channel = tls(server.tls, &chain[1], Some(&held)).await.expect("the server is trusted");
        (held, chain) = certify(channel, None, 0).await.expect("the certificate is good");
        roots.extend(certificates(&chain[1]).into_iter().map(|root| root.to_vec()));
    }
    assert_eq!(server.page("/readyz").0, 200);
}
