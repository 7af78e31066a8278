//! A Kubernetes API with the bookshop in it, until SIGTERM: the program of `cargo xtask cluster`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use eastwest_tests::{bookshop, kubernetes::Kubernetes, programs};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).context("usage: cluster DIR")?);
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    fs::write(dir.join("pid"), std::process::id().to_string())?;
    let mut kubernetes = Kubernetes::start(&dir)?;
    kubernetes.start_controllers()?;
    kubernetes.apply(&programs::istio_definitions()?)?;
    kubernetes.apply(&bookshop::manifests())?;
    kubernetes.wait_for_endpoints()?;
    let kubeconfig = kubernetes.admin_kubeconfig()?.display().to_string();
    println!(
        "cluster ready\n\n  kubeconfig  {kubeconfig}\n\nTry:\n  export KUBECONFIG={kubeconfig}\n  \
         eastwest check\n  eastwest tls payments/payments-0\n  \
         eastwest serve --grpc-tls-addr 127.0.0.1:15012 --http-addr 127.0.0.1:15014\n  \
         kubectl get peerauthentications -A\n\nStop it with: cargo xtask cluster down"
    );
    let [terminate, interrupt] = &mut ends;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
