//! (d) Short-lived certificates rotate without a failed request, and expired ones are refused.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use eastwest_tests::{
    app::Kind,
    bookshop::{Member, ORDERS, PAYMENTS, STOREFRONT, WAREHOUSE},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Life of the certificates that rotate; the shortest that the control plane grants is 10 s.
const SHORT: &str = "12s";

/// How many certificates each side uses in the test.
const CERTIFICATES: usize = 5;

#[test]
#[ignore = "needs root and stock Envoy"]
fn certificates_rotate_under_load_without_a_failed_request() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, server) = (mesh.lift_with_ttl(STOREFRONT, SHORT)?, mesh.lift_with_ttl(ORDERS, SHORT)?);
    let mut established = client.talk(&ORDERS, 5000)?;
    let mut requests = client.load(Kind::Http, &ORDERS, 80)?;
    let mut handshakes = client.load(Kind::Tcp, &ORDERS, 5000)?;

    let started = Instant::now();
    let (mut clients, mut servers) = (BTreeSet::new(), BTreeSet::new());
    until("rotations", Duration::from_secs(90), || {
        clients.insert(client.certificate()?.serial);
        servers.insert(server.certificate()?.serial);
        Ok((clients.len() >= CERTIFICATES && servers.len() >= CERTIFICATES).then_some(()))
    })?;
    let patience = Duration::from_secs(10);
    let (requests, handshakes) = (requests.passes(20, patience)?, handshakes.passes(20, patience)?);
    println!(
        "{:.0?}: {} and {} certificates of {SHORT}; {} requests, {} new connections, {} failed",
        started.elapsed(),
        clients.len(),
        servers.len(),
        requests.answered,
        handshakes.answered,
        requests.failures.len() + handshakes.failures.len()
    );
    assert_eq!((requests.failures, handshakes.failures), (vec![], vec![]));
    established.exchange("after all rotations")?;
    nothing_was_refused(&mesh, &[&client, &server])?;
    // A stream that just ended is opened again within Envoy's back-off.
    until("streams that ended with the certificates that opened them", patience, || {
        let syncz = mesh.control_plane.syncz(mesh.hub())?;
        let newest = syncz.as_array().into_iter().flatten().filter_map(|one| one["id"].as_u64()).max();
        Ok((newest >= Some(4)).then_some(()))
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn an_expired_certificate_opens_no_connection_and_resumes_no_session() -> Result<()> {
    let mesh = Mesh::start()?;
    let mut client = mesh.lift_with_ttl(STOREFRONT, "10s")?;
    let mut server = mesh.lift_with_ttl(WAREHOUSE, "10s")?;
    // These two stay valid.
    let (orders, payments) = (mesh.lift(ORDERS)?, mesh.lift(PAYMENTS)?);
    let mut established = client.talk(&ORDERS, 5000)?;
    assert!(client.echoes(&ORDERS.cluster_ip(), 5000)? && payments.echoes(&WAREHOUSE.cluster_ip(), 7000)?);

    client.sidecar()?.freeze_agent()?;
    server.sidecar()?.freeze_agent()?;
    let of_client = refused_at_expiry(&client, &client, &ORDERS, 5000)?;
    let of_server = refused_at_expiry(&server, &payments, &WAREHOUSE, 7000)?;
    println!("without renewal, refused {of_client:.1} s (client) and {of_server:.1} s (server) after expiry");
    for attempt in 0..20 {
        assert!(!client.echoes(&ORDERS.cluster_ip(), 5000)?, "an expired client, attempt {attempt}");
        assert!(!payments.echoes(&WAREHOUSE.cluster_ip(), 7000)?, "an expired server, attempt {attempt}");
    }
    assert!(!client.call(&PAYMENTS, 80, "/")?.is_ok(), "a call to a server that was not called before");
    assert!(orders.stats("ssl.fail_verify_error")? > 20);
    for pod in [&client, &server, &orders, &payments] {
        assert_eq!(pod.stats("ssl.session_reused")?, 0, "{}", pod.member.pod);
    }
    established.exchange("a connection is not checked again")?;

    client.sidecar()?.thaw_agent()?;
    server.sidecar()?.thaw_agent()?;
    let thawed = Instant::now();
    let patience = Duration::from_secs(20);
    until("a renewed client", patience, || Ok(client.echoes(&ORDERS.cluster_ip(), 5000)?.then_some(())))?;
    until("a renewed server", patience, || {
        Ok(payments.echoes(&WAREHOUSE.cluster_ip(), 7000)?.then_some(()))
    })?;
    println!(
        "20 attempts each way were refused; served again {:.1?} after the agents went on",
        thawed.elapsed()
    );
    Ok(())
}

/// Waits until new connections are refused; returns the seconds since the certificate of `expiring`
/// has expired.
fn refused_at_expiry(expiring: &Pod, client: &Pod, server: &Member, port: u16) -> Result<f64> {
    let expiry = OffsetDateTime::parse(&expiring.certificate()?.expires, &Rfc3339)?;
    until("the certificate's expiry", Duration::from_secs(15), || {
        Ok((!client.echoes(&server.cluster_ip(), port)?).then_some(()))
    })?;
    let late = (OffsetDateTime::now_utc() - expiry).as_seconds_f64();
    assert!((0.0..2.0).contains(&late), "refused {late} s after expiry");
    Ok(late)
}
