//! (b) What a pod without a proxy gets: refused under STRICT, served under PERMISSIVE and DISABLE.

use std::time::Duration;

use anyhow::Result;
use eastwest_tests::{
    app::{Talk, curl_with},
    bookshop::{LEGACY, ORDERS, PAYMENTS, STOREFRONT},
    mesh::{Mesh, nothing_was_refused},
    process::run,
};

/// A port of payments that no Service and no policy names.
const UNNAMED_PORT: u16 = 7777;

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_pod_without_a_proxy_is_refused_under_strict_and_served_under_permissive() -> Result<()> {
    let mesh = Mesh::start()?;
    let mut member = PAYMENTS;
    member.ports = &[8080, 6000, 9090, UNNAMED_PORT];
    let (payments, orders) = (mesh.lift(member)?, mesh.lift(ORDERS)?);
    let legacy = mesh.lift_plain(LEGACY)?;

    for port in [8080, 6000, UNNAMED_PORT] {
        let answer = legacy.call_pod(&PAYMENTS, port, "/")?;
        assert!(matches!(answer.code, 52 | 56), "STRICT port {port} answered: {answer:?}");
    }
    let unmatched = payments.stats("no_filter_chain_match")?;
    assert_eq!(unmatched, 3, "refused for want of TLS");

    let url = format!("https://{}:8080/", PAYMENTS.address);
    let answer =
        curl_with(&legacy.namespace, "unused", PAYMENTS.address, 1, "/", &["--insecure", &url, "--next"])?;
    assert!(!answer.is_ok(), "TLS without a certificate: {answer:?}");
    assert_eq!(payments.stats("ssl.fail_verify_no_cert")?, 1, "refused for want of a certificate");

    let answer = legacy.call_pod(&PAYMENTS, 9090, "/metrics")?;
    assert_eq!(answer.header("x-forwarded-client-cert")?, None, "the DISABLE port");

    let forged = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/bookshop/sa/storefront";
    let address = ORDERS.address;
    let answer = curl_with(&legacy.namespace, address, address, 8080, "/", &["--header", forged])?;
    assert_eq!(answer.header("x-forwarded-client-cert")?, None, "PERMISSIVE; a forged identity is dropped");

    let mut talk = Talk::open(&legacy.namespace, address, 5000, &mesh.dir().join("plain.log"))?;
    let (_, waited) = talk.greeting()?;
    println!("in plaintext, a server that speaks first was heard after {waited:.2?}");
    assert!(waited < Duration::from_secs(5));
    println!("STRICT refused 3 plaintext calls and 1 without certificate; PERMISSIVE and DISABLE served");
    nothing_was_refused(&mesh, &[&payments, &orders])
}

/// When a connection between listeners of one process ends, Envoy can lose data in flight.
#[test]
#[ignore = "needs root and stock Envoy"]
fn an_answer_before_the_end_of_its_connection_arrives() -> Result<()> {
    let mesh = Mesh::start()?;
    let (payments, orders) = (mesh.lift(PAYMENTS)?, mesh.lift(ORDERS)?);
    let legacy = mesh.lift_plain(LEGACY)?;
    let own = mesh.dir().join("own");
    mesh.control_plane.issue("spiffe://cluster.local/ns/bookshop/sa/legacy", &own)?;
    for round in 0..10 {
        let close = ["--header", "connection: close"];
        let address = ORDERS.address;
        let plain = curl_with(&legacy.namespace, address, address, 8080, "/", &close)?;
        assert!(plain.is_ok(), "plaintext, round {round}: {plain:?}");

        let mut curl = legacy.namespace.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--insecure", "--http1.1"]);
        curl.args(close);
        curl.arg("--cert").arg(own.join("cert-chain.pem")).arg("--key").arg(own.join("key.pem"));
        curl.arg(format!("https://{}:8080/", PAYMENTS.address));
        let answer = run(curl)?;
        assert!(answer.contains("payments-0"), "mutual TLS, round {round}: {answer}");
    }
    nothing_was_refused(&mesh, &[&payments, &orders])
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn callers_in_the_mesh_follow_each_endpoint() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, payments) = (mesh.lift(STOREFRONT)?, mesh.lift(PAYMENTS)?);
    let legacy = mesh.lift_plain(LEGACY)?;

    let (wire, answer) = mesh.capture(&payments, || client.call(&PAYMENTS, 9090, "/metrics"))?;
    assert_eq!(answer.seen()?["pod"], "payments-0", "a port without mutual TLS is called without");
    assert!(wire.contains("/metrics")?);

    let (wire, answer) = mesh.capture(&legacy, || client.call(&LEGACY, 80, "/till"))?;
    assert_eq!(answer.seen()?["pod"], "legacy-0", "a pod without sidecar is called without mutual TLS");
    assert!(wire.contains("/till")?);
    nothing_was_refused(&mesh, &[&client, &payments])
}
