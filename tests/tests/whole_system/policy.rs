//! (c) A changed PeerAuthentication is in force within two seconds, and costs no connection that
//! it allows.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use eastwest_tests::{
    app::{Kind, Talk},
    bookshop::{LEGACY, PAYMENTS, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
    sidecar::DRAIN_SECONDS,
};

/// The time in which a change must be in force.
const LIMIT: Duration = Duration::from_secs(2);

/// Longer than the drain time of Envoy.
const DRAIN: Duration = Duration::from_secs(DRAIN_SECONDS + 2);

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_changed_policy_is_in_force_within_two_seconds_and_drops_no_connection() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, payments) = (mesh.lift(STOREFRONT)?, mesh.lift(PAYMENTS)?);
    let legacy = mesh.lift_plain(LEGACY)?;
    let mut established = client.talk(&PAYMENTS, 6000)?;
    established.exchange("under STRICT")?;
    let requests = client.load(Kind::Http, &PAYMENTS, 80)?;
    let handshakes = client.load(Kind::Tcp, &PAYMENTS, 6000)?;

    let opened = switch(&mesh, &legacy, "mode: STRICT", "mode: PERMISSIVE", true)?;
    let mut plain = Talk::open(&legacy.namespace, PAYMENTS.address, 6000, &mesh.dir().join("plain.log"))?;
    plain.exchange("in plaintext")?;
    thread::sleep(DRAIN);
    established.exchange("under PERMISSIVE")?;

    // The mode of the mesh is PERMISSIVE too: the second one is meant.
    let text =
        "namespace: payments\n  creationTimestamp: \"2026-01-12T09:00:00Z\"\nspec:\n  mtls:\n    mode: ";
    let closed = switch(&mesh, &legacy, &format!("{text}PERMISSIVE"), &format!("{text}STRICT"), false)?;
    plain.closed(DRAIN)?;
    thread::sleep(DRAIN);
    established.exchange("under STRICT again")?;

    let (requests, handshakes) = (requests.counts(), handshakes.counts());
    println!("STRICT to PERMISSIVE in force after {opened:.2?}, back after {closed:.2?}");
    println!(
        "meanwhile {} requests and {} new connections, none failed; the connection from before lives, \
         the plaintext one is closed",
        requests.answered, handshakes.answered
    );
    assert!(opened < LIMIT && closed < LIMIT);
    assert_eq!((requests.failures, handshakes.failures), (vec![], vec![]));
    assert_eq!(payments.stat("listener_manager.listener_in_place_updated")?, 2);
    nothing_was_refused(&mesh, &[&client, &payments])
}

/// Edits the policies and measures until a plaintext caller of payments is served, or is not.
fn switch(mesh: &Mesh, legacy: &Pod, from: &str, to: &str, served: bool) -> Result<Duration> {
    mesh.manifests.edit("policies.yaml", from, to)?;
    let changed = Instant::now();
    until("the changed policy", Duration::from_secs(10), || {
        let is_served = legacy.call_pod(&PAYMENTS, 8080, "/")?.is_ok();
        Ok((is_served == served).then_some(()))
    })?;
    Ok(changed.elapsed())
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_broken_file_leaves_its_last_good_content_in_force() -> Result<()> {
    let mesh = Mesh::start()?;
    let payments = mesh.lift(PAYMENTS)?;
    let legacy = mesh.lift_plain(LEGACY)?;
    let text = std::fs::read_to_string(mesh.manifests.dir().join("policies.yaml"))?;

    mesh.manifests.write("policies.yaml", "kind: [half a fi")?;
    let errors = until("the error to be told", Duration::from_secs(5), || {
        let errors = mesh.control_plane.page(mesh.hub(), "/debug/config_errors")?;
        Ok(errors.contains("policies.yaml").then_some(errors))
    })?;
    println!("told: {errors}");
    assert!(!legacy.call_pod(&PAYMENTS, 8080, "/")?.is_ok(), "still STRICT");

    let repaired = text.replace("mode: STRICT", "mode: PERMISSIVE");
    mesh.manifests.write("policies.yaml", &repaired)?;
    until("the repaired file", LIMIT, || Ok(legacy.call_pod(&PAYMENTS, 8080, "/")?.is_ok().then_some(())))?;
    assert!(!mesh.control_plane.page(mesh.hub(), "/debug/config_errors")?.contains("policies.yaml"));
    nothing_was_refused(&mesh, &[&payments])
}
