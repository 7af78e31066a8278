//! The agent with stock Envoy, against a control plane that has no resources.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use http::Method;

use super::admin::EnvoyAdmin;
use crate::tests::{
    SIGNALS,
    agent::{TestAgent, free_port},
    server::FakeCa,
    stock_envoy,
};

#[tokio::test]
async fn envoy_serves_with_the_agents_certificate_and_follows_rotations() {
    let Some(envoy) = stock_envoy("envoy_serves_with_the_agents_certificate_and_follows_rotations") else {
        return;
    };
    let _undisturbed = SIGNALS.read().await;
    let port = free_port().await;
    let admin = EnvoyAdmin::at((Ipv4Addr::LOCALHOST, port).into());
    admin.note(true);
    let ca = FakeCa::new(|ca, csr| Ok(ca.answer(csr, Duration::from_secs(6))));
    let agent = TestAgent::start_with(ca, |config| {
        config.admin_port = port;
        config.drain_time = Duration::from_millis(200);
        config.command = vec![envoy.into(), "-c".into(), config.dir.join("envoy.yaml").into()];
        config.command.extend(["--log-level", "error", "--concurrency", "1"].map(Into::into));
    })
    .await;
    // LIVE over an ADS stream that only a client with a certificate gets, and not on the first connection.
    agent.status_becomes("/healthz/ready", 200, "ready").await;

    // Envoy's own certificate counts, not that of the agent: in an hour it is none.
    let refused = admin.ready(SystemTime::now() + Duration::from_secs(3600)).await.unwrap_err();
    assert!(refused.contains("Envoy holds a certificate that expired at"), "{refused}");

    let loaded = serial(&admin).await;
    let rotated = async {
        while serial(&admin).await == loaded {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rotated).await.expect("Envoy takes the next certificate");
    let connected = "/stats?filter=^(control_plane.connected_state|cluster.xds-grpc.upstream_cx_total)$";
    let stats = admin.send(Method::GET, connected).await.unwrap();
    assert!(stats.contains("connected_state: 1"), "{stats}");
    assert!(stats.contains("upstream_cx_total: 2"), "the stream has survived the rotation: {stats}");
    agent.status_becomes("/healthz/ready", 200, "ready").await;

    // Of an agent whose Envoy was started just now, this one is none.
    let other = EnvoyAdmin::at((Ipv4Addr::LOCALHOST, port).into());
    assert_eq!(other.ready(SystemTime::now()).await.unwrap_err(), "Envoy is not running");
    other.note(true);
    let refused = other.ready(SystemTime::now()).await.unwrap_err();
    assert!(refused.contains("another Envoy answers at the admin port"), "{refused}");
    assert!(other.drain_inbound().await.is_err(), "it is left alone");
    agent.status_becomes("/healthz/ready", 200, "ready").await;

    assert_eq!(agent.end().await, 0, "Envoy ends in order");
    assert!(admin.send(Method::GET, "/ready").await.is_err(), "and is gone");
}

/// The serial number of the certificate that Envoy shows.
async fn serial(admin: &EnvoyAdmin) -> String {
    let page = admin.send(Method::GET, "/certs").await.unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let certificates = page["certificates"].as_array().unwrap();
    let shown = certificates.iter().find_map(|entry| entry["cert_chain"][0]["serial_number"].as_str());
    shown.unwrap_or_else(|| panic!("no certificate in {page}")).to_owned()
}
