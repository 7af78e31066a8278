//! (a) Calls between pods are mutual TLS with the right identities, whatever protocol is declared.
//!
//! The capture proves TLS, the requested name and that nothing can be read. TLS 1.3 hides the
//! certificates, so the server's `x-forwarded-client-cert` tells which two identities Envoy has
//! verified, and a server with the certificate of another workload of the mesh is refused.

use std::time::Duration;

use anyhow::{Context as _, Result};
use eastwest_tests::{
    app::Answer,
    bookshop::{Member, ORDERS, PAYMENTS, STOREFRONT, WAREHOUSE},
    capture::Wire,
    mesh::{Mesh, nothing_was_refused},
};

/// A text that must not be readable on the wire.
const SECRET: &str = "the-title-of-the-book";

#[test]
#[ignore = "needs root and stock Envoy"]
fn calls_are_mutual_tls_with_the_right_identities() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, orders, warehouse, payments) =
        (mesh.lift(STOREFRONT)?, mesh.lift(ORDERS)?, mesh.lift(WAREHOUSE)?, mesh.lift(PAYMENTS)?);
    println!("control plane ready after {:.2?}", mesh.control_plane.ready_after());
    for pod in [&client, &orders, &warehouse, &payments] {
        assert_eq!(pod.certificate()?.spiffe_id, pod.member.spiffe_id());
    }

    // HTTP as declared, to a PERMISSIVE and to a STRICT server.
    for (server, service_port, port) in [(&orders, 80, 8080), (&payments, 80, 8080)] {
        let (wire, answer) =
            mesh.capture(server, || client.call(&server.member, service_port, &format!("/{SECRET}")))?;
        both_identities(&answer, &server.member)?;
        only_tls(&wire, &server.member, service_port, port)?;
    }

    // TCP as declared: the server speaks first, and the client does.
    let (wire, waited) = mesh.capture(&orders, || {
        let mut talk = client.talk(&ORDERS, 5000)?;
        let (greeting, waited) = talk.greeting()?;
        assert_eq!(greeting, "welcome to orders-0");
        talk.exchange(SECRET)?;
        Ok(waited)
    })?;
    only_tls(&wire, &ORDERS, 5000, 5000)?;
    println!("a server that speaks first was heard after {waited:.2?}");
    assert!(waited < Duration::from_secs(1));
    let (wire, ()) = mesh.capture(&payments, || client.talk(&PAYMENTS, 6000)?.exchange(SECRET))?;
    only_tls(&wire, &PAYMENTS, 6000, 6000)?;

    // Nothing declared: HTTP is recognised as such, anything else goes through.
    let (wire, answer) = mesh.capture(&warehouse, || {
        client.talk(&WAREHOUSE, 7000)?.exchange(SECRET)?;
        client.call(&WAREHOUSE, 7000, &format!("/{SECRET}"))
    })?;
    both_identities(&answer, &WAREHOUSE)?;
    only_tls(&wire, &WAREHOUSE, 7000, 7000)?;

    nothing_was_refused(&mesh, &[&client, &orders, &warehouse, &payments])
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_server_with_another_identity_is_refused() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, other) = (mesh.lift(STOREFRONT)?, mesh.lift(WAREHOUSE)?);
    assert!(client.call(&WAREHOUSE, 80, "/")?.is_ok(), "its own certificate is a valid one");

    other.namespace.add_address(ORDERS.address, "eth0")?;
    let answer = client.call(&ORDERS, 80, "/")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!client.echoes(&ORDERS.cluster_ip(), 5000)?);
    let refused = client.stats("ssl.fail_verify_san")?;
    println!("warehouse at the address of orders: {refused} handshakes refused");
    assert!(refused >= 2);
    Ok(())
}

/// The application has seen both names, as the server's Envoy verified and the client's asked for.
fn both_identities(answer: &Answer, server: &Member) -> Result<()> {
    let header = answer.header("x-forwarded-client-cert")?.context("no x-forwarded-client-cert")?;
    let fields: Vec<&str> = header.split([';', ',']).collect();
    let expected = [format!("By={}", server.spiffe_id()), format!("URI={}", STOREFRONT.spiffe_id())];
    for field in &expected {
        assert!(fields.contains(&field.as_str()), "{field} is not in {header}");
    }
    println!("{} saw {header}", server.pod);
    Ok(())
}

/// The wire to `port` carried TLS only, for the name of the Service.
fn only_tls(wire: &Wire, server: &Member, service_port: u16, port: u16) -> Result<()> {
    let streams = wire.streams(port)?;
    assert!(streams.count > 0 && streams.bytes > 1000, "{streams:?}");
    assert!(streams.not_tls.is_empty(), "{streams:?}");
    assert!(!wire.contains(SECRET)?);
    let hellos = wire.client_hellos(port)?;
    assert!(!hellos.is_empty());
    for hello in hellos {
        assert_eq!(hello.destination, server.address);
        assert_eq!(hello.sni, format!("outbound_.{service_port}_._.{}", server.host()));
        assert!(hello.alpn.contains("istio"), "{hello:?}");
        println!(
            "{}:{port} {} connections, {} bytes, all TLS; SNI {}, ALPN {}",
            server.pod, streams.count, streams.bytes, hello.sni, hello.alpn
        );
    }
    Ok(())
}
