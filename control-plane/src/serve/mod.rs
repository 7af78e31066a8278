//! The control plane: wiring of source, publisher, certificate authority and ports.

mod gatekeeper;
mod http;
mod metrics;
mod ports;
mod publisher;
mod shutdown;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use eastwest_ca::{Lifetimes, ServingName};
use eastwest_ca_server::{CaConfig, CertificateAuthority, StateDir, default_serving_names, jwks_file};
use eastwest_model::MeshConfig;
use eastwest_xds_server::XdsServer;
use time::OffsetDateTime;
use tokio::{sync::watch, task::JoinSet};

use self::{
    gatekeeper::Gate,
    ports::{Ports, Services},
    publisher::Publisher,
    shutdown::Shutdown,
};
use crate::{output::write_out, query::World};

/// Life of our own serving certificate.
const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What `eastwest serve` was told, without mistakes.
pub(crate) struct Config {
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) mesh: MeshConfig,
    pub(crate) cluster_id: String,
    pub(crate) grpc: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) tokens: TokenConfig,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) serving_names: Vec<ServingName>,
}

/// Which bearer tokens are accepted.
pub(crate) struct TokenConfig {
    /// The `aud` that a token must name.
    pub(crate) audience: String,
    /// Whose tokens besides our own.
    pub(crate) issuer: Option<TokenIssuerConfig>,
}

/// A further issuer of service-account tokens.
pub(crate) struct TokenIssuerConfig {
    /// File with its keys.
    pub(crate) jwks: String,
    /// Its `iss`.
    pub(crate) issuer: String,
}

/// What the HTTP pages look at.
struct Shared {
    world: watch::Receiver<World>,
    ca: Arc<CertificateAuthority>,
    xds: XdsServer,
    shutdown: Shutdown,
}

impl Shared {
    /// Why we are not ready, if we are not.
    fn unready(&self) -> Option<&'static str> {
        if self.shutdown.is_requested() {
            return Some("shutting down");
        }
        let able = self.ca.is_able_to_sign(OffsetDateTime::now_utc());
        (!able).then_some("the certificate authority cannot sign: see `eastwest ca show`")
    }
}

/// Runs the control plane until SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting: a port in use, an unusable state directory, a missing input.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let ports = Ports::bind(&config).await?;
    let addresses = ports.addresses()?;
    let mut input =
        eastwest_sources::follow(&config.config_dir, config.mesh.clone()).context("--config-dir")?;
    let first = input.recv().await.context("the input ended before it was read")?;
    let (publisher, subscribers, world) = Publisher::new(config.mesh.clone(), first);
    let state = StateDir::open(&config.state_dir)?;
    let _lock = state.lock()?;
    let ca = authority(&config, &state, &world, addresses[1])?;

    let xds = |authenticator| {
        let gate = Gate { authenticator, subscribers: subscribers.clone(), world: world.clone() };
        XdsServer::new(Arc::new(gate), shutdown.token())
    };
    let local = xds(None);
    let xds = xds(Some(ca.authenticator())).sharing(local.connections());
    let shared =
        Shared { world: world.clone(), ca: ca.clone(), xds: xds.clone(), shutdown: shutdown.clone() };
    let services = Services { local, xds, ca: ca.clone(), shared: Arc::new(shared) };

    let mut background = JoinSet::new();
    background.spawn(publisher.run(input));
    background.spawn(ca.clone().renew_serving_certificate());
    background.spawn(follow_trust_domain(ca, world.clone()));
    let serving = ports.serve(services, &shutdown);
    greet(&config, &world.borrow().clone(), &addresses)?;
    tokio::select! {
        ended = shutdown.bound(serving) => ended,
        _ = background.join_next() => anyhow::bail!("a background task ended; this is a defect of eastwest"),
    }
}

/// The authority of the state directory, in the trust domain of the mesh.
fn authority(
    config: &Config,
    state: &StateDir,
    world: &watch::Receiver<World>,
    tls: SocketAddr,
) -> anyhow::Result<Arc<CertificateAuthority>> {
    let now = OffsetDateTime::now_utc();
    let mesh = world.borrow().snapshot.mesh().clone();
    let audiences = vec![config.tokens.audience.clone()];
    let further = config.tokens.issuer.as_ref();
    let token_issuers = further
        .map(|one| jwks_file(&one.jwks, &one.issuer, audiences.clone()))
        .transpose()?
        .into_iter()
        .collect();
    let serving_names = match config.serving_names.is_empty() {
        true => default_serving_names(&mesh.root_namespace, &[tls.ip()]),
        false => config.serving_names.clone(),
    };
    let keys = state.load_or_create(&mesh.trust_domain, now)?;
    let ca = CaConfig {
        trust_domain: mesh.trust_domain,
        cluster_id: config.cluster_id.clone(),
        lifetimes: config.lifetimes,
        serving_names,
        serving_lifetime: SERVING_LIFETIME,
        token_audiences: audiences,
        token_issuers,
    };
    Ok(CertificateAuthority::new(ca, keys, now)?)
}

/// Keeps the trust domain of the authority equal to that of the mesh.
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
fn greet(config: &Config, world: &World, [grpc, tls, http]: &[SocketAddr; 3]) -> anyhow::Result<()> {
    write_out(&format!("eastwest ready grpc={grpc} tls={tls} http={http}"))?;
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
