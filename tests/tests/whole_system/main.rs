//! The whole system: the real `eastwest`, stock Envoys, pods in network namespaces.
//!
//! Marked `ignore`, for they need root and Envoy; `cargo xtask test` runs them where both are.
//! Each prints its figures: `cargo test -p eastwest-tests --test whole_system -- --ignored --nocapture`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    mesh::{Mesh, Pod},
    process::until,
};

mod cells;
mod credentials;
mod destination;
mod harness;
mod identity;
mod modes;
mod origination;
mod policy;
mod restart;
mod resumption;
mod root_rotation;
mod rotation;

/// Nobody refused anything: neither the Envoys what they were sent, nor we what they said.
fn nothing_was_refused(mesh: &Mesh, pods: &[&Pod]) -> Result<()> {
    // A proxy may be about to connect again, with its next certificate.
    let connections = until("all proxies to be connected", Duration::from_secs(10), || {
        let syncz = mesh.control_plane.syncz(mesh.hub())?;
        let connections = syncz.as_array().context("/debug/syncz is a list")?;
        Ok((connections.len() == pods.len()).then(|| connections.clone()))
    })?;
    for connection in &connections {
        for state in connection["types"].as_array().context("a connection has types")? {
            ensure!(state["error"].is_null() && state["state"] != "ERROR", "refused: {connection:#}");
        }
    }
    for pod in pods {
        for counter in [
            "listener_manager.lds.update_rejected",
            "cluster_manager.cds.update_rejected",
            ".update_rejected",
            "server.dynamic_unknown_fields",
        ] {
            ensure!(pod.stats(counter)? == 0, "{counter} of {}", pod.member.pod);
        }
    }
    Ok(())
}
