//! The root is replaced by one with another key, twice, while two stock Envoys talk: no request and no handshake fails.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use eastwest_tests::{
    app::Kind,
    bookshop::{ORDERS, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
};
use serde_json::Value;

/// Life of the workloads' certificates; a rotation takes two of them.
const SHORT: &str = "12s";
/// The number of rotations.
const ROTATIONS: usize = 2;

#[test]
#[ignore = "needs root and stock Envoy"]
fn the_root_is_replaced_under_load_without_a_failed_handshake() -> Result<()> {
    let mesh = Mesh::start()?;
    let (client, server) = (mesh.lift_with_ttl(STOREFRONT, SHORT)?, mesh.lift_with_ttl(ORDERS, SHORT)?);
    let pods = [&client, &server];
    let mut established = client.talk(&ORDERS, 5000)?;
    let mut requests = client.load(Kind::Http, &ORDERS, 80)?;
    let mut handshakes = client.load(Kind::Tcp, &ORDERS, 5000)?;
    let first = certificate_count(&mesh)?;
    anyhow::ensure!(first == 1, "{first} roots at the start");

    let started = Instant::now();
    let mut trusted = BTreeSet::from([anchor(&mesh)?]);
    for _ in 0..ROTATIONS {
        for (step, roots) in [("prepare", 1), ("publish", 2), ("activate", 2), ("retire", 1)] {
            let view = mesh.control_plane.rotate(step)?;
            println!("{:5.1?} {step}: {}", started.elapsed(), view["phase"]);
            anyhow::ensure!(view["served"] == true, "a server runs: {view}");
            until("the trust anchor", Duration::from_secs(10), || {
                Ok((certificate_count(&mesh)? == roots).then_some(()))
            })?;
        }
        // Both Envoys end with the new root alone, by renewal and SDS.
        let new = anchor(&mesh)?;
        until("both Envoys to trust the new root alone", Duration::from_secs(30), || {
            let all = pods.iter().map(|pod| roots_of(pod)).collect::<Result<Vec<_>>>()?;
            Ok(all.iter().all(|roots| roots.trim() == new.trim()).then_some(()))
        })?;
        trusted.insert(new);
    }
    let patience = Duration::from_secs(20);
    let (requests, handshakes) = (requests.passes(20, patience)?, handshakes.passes(20, patience)?);
    println!(
        "{ROTATIONS} rotations with certificates of {SHORT} in {:.0?}: {} requests, {} new connections, {} failed",
        started.elapsed(),
        requests.answered,
        handshakes.answered,
        requests.failures.len() + handshakes.failures.len()
    );
    assert_eq!((requests.failures, handshakes.failures), (vec![], vec![]));
    assert_eq!(trusted.len(), ROTATIONS + 1, "each rotation had its own root");
    established.exchange("after all rotations")?;
    for pod in pods {
        for counter in ["ssl.fail_verify_error", "ssl.fail_verify_san", "ssl.connection_error"] {
            assert_eq!(pod.stats(counter)?, 0, "{counter} of {}", pod.member.pod);
        }
    }
    nothing_was_refused(&mesh, &pods)
}

/// The trust anchor for agents, PEM.
fn anchor(mesh: &Mesh) -> Result<String> {
    Ok(fs::read_to_string(mesh.control_plane.root())?)
}

/// How many roots it has.
fn certificate_count(mesh: &Mesh) -> Result<usize> {
    Ok(anchor(mesh)?.matches("BEGIN CERTIFICATE").count())
}

/// The roots that a pod's Envoy trusts for its peers, PEM.
fn roots_of(pod: &Pod) -> Result<String> {
    let page: Value = serde_json::from_str(&pod.admin("/config_dump?resource=dynamic_active_secrets")?)?;
    let secrets = page["configs"].as_array().context("/config_dump has no configs")?;
    let roots = secrets.iter().find(|secret| secret["name"] == "ROOTCA").context("Envoy has no ROOTCA")?;
    let roots = &roots["secret"]["validation_context"]["trusted_ca"];
    match (&roots["inline_bytes"], &roots["inline_string"]) {
        (Value::String(bytes), _) => Ok(String::from_utf8(BASE64_STANDARD.decode(bytes)?)?),
        (_, Value::String(text)) => Ok(text.clone()),
        _ => anyhow::bail!("an unknown shape of /config_dump: {roots}"),
    }
}
