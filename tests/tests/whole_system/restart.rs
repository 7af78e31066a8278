//! (e) The control plane is killed and comes back under traffic.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use eastwest_tests::{
    app::Kind,
    bookshop::{LEGACY, ORDERS, PAYMENTS, STOREFRONT, WAREHOUSE},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
};

/// The time in which all proxies must be connected and in sync again: Envoy waits up to five seconds
/// between two attempts to connect, and one of them has to wait for its certificate first.
const RESYNC: Duration = Duration::from_secs(8);

/// The time in which an agent without a valid certificate must get one.
const RENEWAL: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root and stock Envoy"]
fn nothing_fails_while_the_control_plane_is_away_and_all_resync_when_it_is_back() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let (client, server) = (mesh.lift(STOREFRONT)?, mesh.lift(ORDERS)?);
    let (payments, expiring) = (mesh.lift(PAYMENTS)?, mesh.lift_with_ttl(WAREHOUSE, "10s")?);
    let legacy = mesh.lift_plain(LEGACY)?;
    let mut requests = client.load(Kind::Http, &ORDERS, 80)?;
    let mut handshakes = client.load(Kind::Tcp, &ORDERS, 5000)?;
    let pods = [&client, &server, &payments, &expiring];

    mesh.control_plane.kill()?;
    let killed = Instant::now();
    until("the expiry of a certificate", Duration::from_secs(20), || {
        Ok((!client.echoes(&WAREHOUSE.cluster_ip(), 7000)?).then_some(()))
    })?;
    let expired = expiring.certificate()?;
    let away = killed.elapsed();

    mesh.restart_control_plane()?;
    let back = Instant::now();
    until("a new certificate", Duration::from_secs(30), || {
        Ok((expiring.certificate()?.serial != expired.serial).then_some(()))
    })?;
    let renewed = back.elapsed();
    until("all to be in sync", Duration::from_secs(30), || Ok(in_sync(&mesh, &pods)?.then_some(())))?;
    let resynced = back.elapsed();

    // The streams work: a change arrives through them.
    mesh.manifests.edit("policies.yaml", "mode: STRICT", "mode: PERMISSIVE")?;
    until("a change of policy", Duration::from_secs(2), || {
        Ok(legacy.call_pod(&PAYMENTS, 8080, "/")?.is_ok().then_some(()))
    })?;
    let patience = Duration::from_secs(10);
    let (requests, handshakes) = (requests.passes(20, patience)?, handshakes.passes(20, patience)?);
    println!(
        "away for {away:.1?}; the expired certificate was renewed {renewed:.2?} and all were in sync \
         {resynced:.2?} after its return; {} requests, {} new connections, {} failed",
        requests.answered,
        handshakes.answered,
        requests.failures.len() + handshakes.failures.len()
    );
    assert_eq!((requests.failures, handshakes.failures), (vec![], vec![]));
    assert!(renewed < RENEWAL && resynced < RESYNC);
    nothing_was_refused(&mesh, &pods)
}

/// Whether all are connected, and what each was sent is acknowledged.
fn in_sync(mesh: &Mesh, pods: &[&Pod]) -> Result<bool> {
    for pod in pods {
        if pod.stat("control_plane.connected_state")? != 1 {
            return Ok(false);
        }
    }
    let syncz = mesh.control_plane.syncz(mesh.hub())?;
    let connections = syncz.as_array().context("/debug/syncz is a list")?;
    let types = connections.iter().filter_map(|connection| connection["types"].as_array()).flatten();
    Ok(connections.len() == pods.len() && types.into_iter().all(|state| state["state"] == "SYNCED"))
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn asked_to_end_both_programs_end_well() -> Result<()> {
    let mut mesh = Mesh::start()?;
    let mut pod = mesh.lift(WAREHOUSE)?;
    assert!(pod.echoes(&WAREHOUSE.cluster_ip(), 7000)?);

    let asked = Instant::now();
    let status = pod.sidecar()?.terminate(Duration::from_secs(20))?;
    println!("the agent and its Envoy ended {:.1?} after SIGTERM", asked.elapsed());
    assert!(status.success(), "{status}");
    assert!(pod.admin("/ready").is_err(), "Envoy has ended with its agent");

    let asked = Instant::now();
    let status = mesh.control_plane.terminate(Duration::from_secs(20))?;
    println!("the control plane ended {:.1?} after SIGTERM", asked.elapsed());
    assert!(status.success(), "{status}");
    Ok(())
}
