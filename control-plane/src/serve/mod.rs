//! The control plane: wiring of source, publisher, certificate authority and ports.

mod alone;
mod authorizer;
mod bundles;
mod ca;
mod http;
mod input;
mod metrics;
mod pages;
mod ports;
mod proofs;
mod publisher;
mod roots;
mod shutdown;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use eastwest_ca_server::{CertificateAuthority, OwnBundle, StateDir};
use eastwest_model::MeshConfig;
use eastwest_xds_server::XdsServer;
use prometheus::Registry;
use tokio::{sync::watch, task::JoinSet};

pub(crate) use self::{
    alone::{AloneConfig, Root, StatePlace, run as run_alone},
    bundles::{BundleConfig, EndpointConfig},
    ca::CaConfig,
    proofs::{
        JobConfig, KeyPlace, KubernetesConfig, NodeConfig, ProvingConfig, TokenConfig, TokenIssuerConfig,
    },
    roots::RootConfig,
};
use self::{
    authorizer::ProxyAuthorizer,
    bundles::Endpoint,
    ca::Place,
    ports::{Ports, Services},
    proofs::WatchedPods,
    publisher::Publisher,
    shutdown::Shutdown,
};
use crate::{output::write_out, query::World};

/// What `eastwest serve` was told, without mistakes.
pub(crate) struct Config {
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) mesh: MeshConfig,
    pub(crate) grpc: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) ca: CaConfig,
    pub(crate) roots: RootConfig,
    pub(crate) bundles: BundleConfig,
}

/// What the HTTP pages look at.
struct Shared {
    world: watch::Receiver<World>,
    ca: Arc<CertificateAuthority>,
    bundle: Arc<OwnBundle>,
    metrics: Registry,
    xds: XdsServer,
    shutdown: Shutdown,
}

/// Runs the control plane until SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting: a port in use, an unusable state directory, a missing input.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let ports = Ports::bind(&config).await?;
    let addresses = ports.addresses()?;
    let endpoint = Endpoint::bind(config.bundles.endpoint.as_ref()).await?;
    let endpoint_address = endpoint.as_ref().map(Endpoint::address).transpose()?;
    let (input, first) = input::follow(&config.config_dir, &config.mesh).await?;
    let (publisher, subscribers, world) = Publisher::new(config.mesh.clone(), input, first);
    let state = StateDir::open(&config.state_dir)?;
    let _lock = state.lock()?;
    let mesh = world.borrow().snapshot.mesh().clone();
    let (roots, keys) = config.roots.open(&state, &mesh.trust_domain)?;
    let pods = Some(Arc::new(WatchedPods(world.clone())) as _);
    let (root_namespace, state_dir) = (&*mesh.root_namespace, config.state_dir.as_path());
    let at = Place { root_namespace, tls: addresses[1].ip(), state_dir, pods };
    let ca = ca::start(&config.ca, keys, mesh.trust_domain.clone(), &at)?;
    roots.follow(&ca)?;

    let xds = |peer_authenticator| {
        let authorizer =
            ProxyAuthorizer { peer_authenticator, subscribers: subscribers.clone(), world: world.clone() };
        XdsServer::new(Arc::new(authorizer), shutdown.token())
    };
    let local = xds(None);
    let xds = xds(Some(ca.peer_authenticator())).sharing(local.connections());
    let mut background = JoinSet::new();
    let (bundle, identity) =
        bundles::start(&config.bundles, endpoint, &ca, &state, &mesh, (&mut background, shutdown.token()))?;
    let metrics = metrics::registry(&ca)?;
    metrics::register_mesh(&metrics, Arc::clone(xds.connections()), world.clone())?;
    let shared = Shared {
        world: world.clone(),
        ca: ca.clone(),
        bundle,
        metrics,
        xds: xds.clone(),
        shutdown: shutdown.clone(),
    };
    let services = Services { local, xds, ca: ca.clone(), identity, shared: Arc::new(shared) };

    background.spawn(publisher.run());
    background.spawn(ca.clone().renew_serving_certificate());
    background.spawn(ca.clone().follow_proofs());
    background.spawn(follow_trust_domain(ca, world.clone()));
    let serving = ports.serve(services, &shutdown);
    greet(&config, &world.borrow().clone(), &addresses, endpoint_address)?;
    tokio::select! {
        ended = shutdown.bound(serving) => ended,
        _ = background.join_next() => anyhow::bail!("a background task ended; this is a defect of eastwest"),
    }
}

/// Keeps the trust domain of the CA equal to that of the mesh.
async fn follow_trust_domain(ca: Arc<CertificateAuthority>, mut world: watch::Receiver<World>) {
    let mut domain = world.borrow().snapshot.mesh().trust_domain.clone();
    while world.changed().await.is_ok() {
        let next = world.borrow_and_update().snapshot.mesh().trust_domain.clone();
        if next != domain {
            tracing::info!(from = %domain, to = %next, "the trust domain of the mesh changed");
            ca.set_trust_domain(&next);
            domain = next;
        }
    }
}

/// The line that programs wait for, and what a person may do next.
fn greet(
    config: &Config,
    world: &World,
    [grpc, tls, http]: &[SocketAddr; 3],
    endpoint: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let bundle = endpoint.map_or_else(String::new, |address| format!(" bundle={address}"));
    write_out(&format!("eastwest ready grpc={grpc} tls={tls} http={http}{bundle}"))?;
    let (directory, state) = (config.config_dir.display(), config.state_dir.display());
    let example = world.snapshot.workloads().next();
    let workload = example.map_or("NAMESPACE/POD".to_owned(), |one| one.key().to_string());
    let account = example.map_or("NAMESPACE/SERVICE-ACCOUNT".to_owned(), |one| {
        format!("{}/{}", one.meta.namespace(), one.service_account.as_deref().unwrap_or("default"))
    });
    write_out(&format!(
        "\n  manifests     {directory} (followed)\n  trust anchor  {state}/root-cert.pem\n  \
         xDS and CA    {tls} (TLS)\n  xDS, local    {grpc} (plaintext)\n  pages         http://{http}/debug/list\n\n\
         Try next:\n  eastwest tls {workload} --server http://{http}\n  eastwest check --server http://{http}\n  \
         eastwest token --service-account {account} --state-dir {state}\n"
    ))
}
