//! How servers are called: what a DestinationRule demands, and which endpoints there are.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use eastwest_tests::{
    app::Kind,
    bookshop::{CATALOG, CATALOG_NEXT, ORDERS, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
};

/// The time in which a change must be in force.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a load may take for some requests.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_destination_rule_decides_and_its_change_fails_no_request() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, catalog, next) = (mesh.lift(STOREFRONT)?, mesh.lift(CATALOG)?, mesh.lift(CATALOG_NEXT)?);
    let mut requests = client.load(Kind::Http, &CATALOG, 80)?;

    let mut answered = BTreeSet::new();
    for _ in 0..20 {
        let answer = client.call(&CATALOG, 80, "/")?;
        answered.insert(answer.seen()?["pod"].to_string());
        assert!(answer.header("x-forwarded-client-cert")?.is_some(), "the rule demands mutual TLS");
    }
    assert_eq!(answered.len(), 2, "both pods answer: {answered:?}");

    // A changed cluster must not wait for endpoints that did not change.
    let plain = until_mutual(&mesh, &client, "mode: ISTIO_MUTUAL", "mode: DISABLE\n    # was mutual", false)?;
    requests.passes(50, PATIENCE)?;
    let mutual = until_mutual(&mesh, &client, "mode: DISABLE\n    # was mutual", "mode: ISTIO_MUTUAL", true)?;
    let counts = requests.passes(50, PATIENCE)?;
    println!(
        "DestinationRule to DISABLE in force after {plain:.2?}, back after {mutual:.2?}; {} requests, {} failed",
        counts.answered,
        counts.failures.len()
    );
    assert!(plain < LIMIT && mutual < LIMIT);
    assert_eq!(counts.failures, Vec::<String>::new());
    assert_eq!(client.stat("cluster_manager.warming_clusters")?, 0);
    nothing_was_refused(&mesh, &[&client, &catalog, &next])
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_pod_that_is_not_ready_gets_no_new_call_and_keeps_its_connections() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, orders) = (mesh.lift(STOREFRONT)?, mesh.lift(ORDERS)?);
    let mut established = client.talk(&ORDERS, 5000)?;
    established.exchange("while ready")?;

    mesh.manifests.edit("orders.yaml", "status: \"True\"", "status: \"False\"")?;
    let changed = Instant::now();
    until("the endpoint's end", Duration::from_secs(10), || {
        Ok((client.call(&ORDERS, 80, "/")?.status == 503).then_some(()))
    })?;
    let gone = changed.elapsed();
    established.exchange("when no longer ready")?;

    mesh.manifests.edit("orders.yaml", "status: \"False\"", "status: \"True\"")?;
    let changed = Instant::now();
    until("the endpoint's return", Duration::from_secs(10), || {
        Ok(client.call(&ORDERS, 80, "/")?.is_ok().then_some(()))
    })?;
    println!("an endpoint is gone after {gone:.2?}, back after {:.2?}", changed.elapsed());
    assert!(gone < LIMIT && changed.elapsed() < LIMIT);
    nothing_was_refused(&mesh, &[&client, &orders])
}

/// Edits the policies and measures until catalog is called with mutual TLS, or without.
fn until_mutual(mesh: &Mesh, client: &Pod, from: &str, to: &str, mutual: bool) -> Result<Duration> {
    mesh.manifests.edit("policies.yaml", from, to)?;
    let changed = Instant::now();
    until("the changed rule", Duration::from_secs(10), || {
        let seen = client.call(&CATALOG, 80, "/")?.header("x-forwarded-client-cert")?;
        Ok((seen.is_some() == mutual).then_some(()))
    })?;
    Ok(changed.elapsed())
}
