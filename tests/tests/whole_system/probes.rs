//! Probes of an application behind STRICT: the kubelet's own are refused, those that the agent makes are not.

use anyhow::{Result, ensure};
use eastwest_tests::{app::curl, bookshop::PAYMENTS, mesh::Mesh};

#[test]
#[ignore = "needs root and stock Envoy"]
fn the_agent_probes_an_application_that_takes_mutual_tls_alone() -> Result<()> {
    let mesh = Mesh::start()?;
    let probes = r#"{
        "/app-health/app/readyz": {"httpGet": {"path": "/ready", "port": 8080}},
        "/app-health/app/livez": {"tcpSocket": {"port": 8080}},
        "/app-health/app/startupz": {"tcpSocket": {"port": 81}}
    }"#;
    let _pod = mesh.lift_with(PAYMENTS, &["--app-probes", probes])?;
    // As the kubelet does, from outside the pod and without a certificate.
    let kubelet = |port, path: &str| curl(mesh.hub(), PAYMENTS.address, PAYMENTS.address, port, path);
    ensure!(!kubelet(8080, "/ready")?.is_ok(), "STRICT takes plaintext");
    for path in ["/app-health/app/readyz", "/app-health/app/livez"] {
        let answer = kubelet(15020, path)?;
        ensure!(answer.is_ok(), "{path}: {answer:?}");
    }
    let closed = kubelet(15020, "/app-health/app/startupz")?;
    ensure!(closed.status == 503, "nobody listens there: {closed:?}");
    let other = kubelet(15020, "/metrics")?;
    ensure!(other.status == 404, "{other:?}");
    Ok(())
}
