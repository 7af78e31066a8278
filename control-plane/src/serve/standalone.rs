//! The certificate authority without a mesh, for CI clusters and tests: no manifests, no xDS.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use eastwest_ca_server::{
    CertificateAuthority, OwnBundle,
    bundles::{DEFAULT_REFRESH_HINT, IdentityService, federation, publish},
    test_root,
};
use eastwest_io::stdio;
use eastwest_model::TrustDomain;

use super::{
    access::DebugAccess,
    ca::{CaConfig, Place},
    metrics,
    pages::{self, Served},
    ports::{PortAddresses, Ports, Services},
    process::Process,
    signer::{SignerSource, TrustDomainChoice},
    startup::Startup,
    state::{State, StatePlace},
};

/// Namespace of istiod's service names, since there is no mesh that configures it.
const ROOT_NAMESPACE: &str = "istio-system";

/// The configuration of `eastwest ca serve`, valid.
pub(crate) struct StandaloneConfig {
    pub(crate) state: StatePlace,
    pub(crate) signer: SignerSource,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) ca: CaConfig,
    pub(crate) ports: PortAddresses,
    pub(crate) debug_access: DebugAccess,
    /// Whether the test root may serve other machines.
    pub(crate) insecure_remote: bool,
}

/// Runs the CA until SIGTERM.
///
/// # Errors
/// What prevents the start: a port in use, an unusable root or state directory.
pub(crate) async fn run(config: StandaloneConfig) -> anyhow::Result<()> {
    let mut process = Process::start()?;
    let shutdown = process.shutdown().clone();
    let startup = Startup::new(shutdown.clone());
    let ports = Ports::bind(&config.ports, startup.pages(config.debug_access), &shutdown).await?;
    let addresses = ports.addresses()?;
    let locked = config.state.open_directory()?.context("a CA without a mesh needs a --state-dir")?;
    let state = State::Directory(locked);
    let place = Place {
        root_namespace: ROOT_NAMESPACE,
        tls: addresses.tls.ip(),
        state: &state,
        pods: None,
        spent_tokens: None,
        pod_patience: Duration::ZERO,
    };
    let trust_domain = TrustDomainChoice { name: config.trust_domain, by_flag: true };
    let ca = process.start_ca(&config.ca, &config.signer, trust_domain, &place, &startup).await?;
    warn_of_test_root(&ca, addresses.tls, config.insecure_remote)?;

    let bundle = Arc::new(OwnBundle::new(ca.clone(), state.storage(), DEFAULT_REFRESH_HINT)?);
    let (published, publishing) = publish(Arc::clone(&bundle), federation::nobody());
    process.spawn(publishing);
    let identity = IdentityService::new(&ca, published, bundle.svid_key(), shutdown.token());
    let metrics = metrics::registry(&ca)?;
    let served = Served { ca: ca.clone(), bundle, metrics, shutdown: shutdown.clone() };
    startup.ends(pages::common(&[], served));
    let services = Services { plaintext_xds: None, xds: None, ca: ca.clone(), identity };
    print_ready(&ca, state.path().unwrap_or(Path::new("")), &addresses);
    process.run(ports.serve(services, shutdown)).await
}

/// Warns about the test root, and refuses to serve it to other machines unless that is allowed.
fn warn_of_test_root(ca: &CertificateAuthority, tls: SocketAddr, remote: bool) -> anyhow::Result<()> {
    if !ca.has_test_root() {
        return Ok(());
    }
    if !tls.ip().is_loopback() && !remote {
        bail!(
            "--grpc-tls-addr: {tls} can be reached by others, and the key of this root is published: use a loopback \
             address, or say --insecure-allow-remote"
        );
    }
    let line = "!".repeat(110);
    stdio::stderr().line(&format!("{line}\n{}\n{line}", test_root::WARNING));
    Ok(())
}

/// Prints the line that programs wait for, and what to do next.
fn print_ready(ca: &CertificateAuthority, state: &Path, addresses: &PortAddresses) {
    let PortAddresses { tls, http, .. } = addresses;
    let (state, domain) = (state.display(), ca.trust_domain());
    let insecure = if ca.has_test_root() { " insecure-test-root=true" } else { "" };
    stdio::stdout().line(&format!(
        "eastwest ready tls={tls} http={http} trust-domain={domain} state={state}{insecure}\n\n  \
         trust domain  {domain}\n  trust anchor  {state}/root-cert.pem\n  CA            {tls} (TLS)\n  \
         pages         http://{http}/debug/list\n\n\
         Try next:\n  eastwest ca wait-ready --server http://{http}\n  \
         eastwest ca issue --server {tls} --service-account shop/reviews --state-dir {state} --out certs\n  \
         eastwest token --service-account shop/reviews --state-dir {state}\n"
    ));
}
