//! The control plane: wiring of source, publisher, certificate authority and ports.

mod gatekeeper;
mod http;
mod metrics;
mod publisher;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use eastwest_ca::{Lifetimes, ServingName};
use eastwest_ca_server::{
    CaConfig, CertificateAuthority, Incoming, StateDir, default_serving_names, jwks_file, server_config,
};
use eastwest_model::{MeshConfig, Severity};
use eastwest_xds_server::XdsServer;
use time::OffsetDateTime;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::{gatekeeper::Gate, publisher::Publisher};
use crate::{output::write_out, query::World};

/// Life of our own serving certificate.
const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long streams and requests may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// What `eastwest serve` was told, without mistakes.
pub(crate) struct Config {
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) mesh: MeshConfig,
    pub(crate) cluster_id: String,
    pub(crate) grpc: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) issuer: Option<TokenIssuerConfig>,
    pub(crate) audience: String,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) serving_names: Vec<ServingName>,
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
    stopping: CancellationToken,
}

impl Shared {
    /// Why we are not ready, if we are not.
    fn unready(&self) -> Option<&'static str> {
        if self.stopping.is_cancelled() {
            return Some("shutting down");
        }
        let able = self.ca.is_able_to_sign(OffsetDateTime::now_utc());
        (!able).then_some("the certificate authority cannot sign: see `eastwest ca show`")
    }
}

/// The three ports.
struct Ports {
    grpc: TcpListener,
    tls: TcpListener,
    http: TcpListener,
}

impl Ports {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |flag: &str, address: SocketAddr| {
            let remedy =
                "is another control plane running? Choose another address, or port 0 for any free one";
            TcpListener::bind(address)
                .await
                .with_context(|| format!("{flag}: cannot listen on {address} ({remedy})"))
        };
        Ok(Self {
            grpc: bind("--grpc-addr", config.grpc).await?,
            tls: bind("--grpc-tls-addr", config.tls).await?,
            http: bind("--http-addr", config.http).await?,
        })
    }

    fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.grpc.local_addr()?, self.tls.local_addr()?, self.http.local_addr()?])
    }
}

/// Runs the control plane until SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting: a port in use, an unusable state directory, a missing input.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let stopping = stop_on_signals()?;
    let ports = Ports::bind(&config).await?;
    let addresses = ports.addresses()?;
    let mut input = eastwest_sources::follow(&config.config_dir, config.mesh.clone())?;
    let first = input.recv().await.context("the input ended before it was read")?;
    report(&first);
    let (publisher, subscribers, world) = Publisher::new(config.mesh.clone(), first);

    let state = StateDir::open(&config.state_dir)?;
    let _lock = state.lock()?;
    let ca = authority(&config, &state, &world, addresses[1])?;

    let gate = |authenticator| {
        Arc::new(Gate { authenticator, subscribers: subscribers.clone(), world: world.clone() })
    };
    let streams = CancellationToken::new();
    let local = XdsServer::new(gate(None), streams.clone());
    let xds = XdsServer::new(gate(Some(ca.authenticator())), streams.clone()).sharing(local.connections());
    let shared = Arc::new(Shared {
        world: world.clone(),
        ca: ca.clone(),
        xds: xds.clone(),
        stopping: stopping.clone(),
    });

    let mut background = JoinSet::new();
    background.spawn(publisher.run(input));
    background.spawn(ca.clone().renew_serving_certificate());
    background.spawn(follow_trust_domain(ca.clone(), world));

    let plain = Server::builder()
        .add_service(local.aggregated())
        .serve_with_incoming_shutdown(Incoming::plain(ports.grpc), stopping.clone().cancelled_owned());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(eastwest_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("gRPC reflection")?;
    let (_, health) = tonic_health::server::health_reporter();
    let tls = Server::builder()
        .add_service(xds.aggregated())
        .add_service(ca.service())
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(
            Incoming::tls(ports.tls, server_config(&ca)),
            stopping.clone().cancelled_owned(),
        );
    let pages = axum::serve(ports.http, http::routes(shared.clone()))
        .with_graceful_shutdown(streams.clone().cancelled_owned());
    let servers = async {
        let (plain, tls, pages) = tokio::join!(plain, tls, pages.into_future());
        plain?;
        tls?;
        pages.context("HTTP")
    };
    greet(&config, &shared.world.borrow().clone(), &addresses)?;
    tokio::select! {
        ended = drained(servers, &stopping, &streams) => ended,
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
    let audiences = vec![config.audience.clone()];
    let further = config.issuer.as_ref();
    let token_issuers =
        further.map(|one| jwks_file(&one.jwks, &one.issuer, audiences.clone())).transpose()?.into_iter().collect();
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

/// The first SIGTERM or SIGINT begins to drain, the second one ends the process at once.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if second {
                std::process::exit(1);
            }
            tracing::info!("draining; a second signal ends at once");
            token.cancel();
        }
    });
    Ok(stopping)
}

/// Waits for the servers. After SIGTERM the streams are told to go, and what has not ended in time is cut.
async fn drained(
    servers: impl Future<Output = anyhow::Result<()>>,
    stopping: &CancellationToken,
    streams: &CancellationToken,
) -> anyhow::Result<()> {
    let deadline = async {
        stopping.cancelled().await;
        streams.cancel();
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = servers => ended,
        () = deadline => {
            tracing::warn!("some connections did not end within {DRAIN:?} and are cut");
            Ok(())
        }
    }
}

/// Says once what the input is like.
fn report(batch: &eastwest_sources::Batch) {
    for finding in &batch.diagnostics {
        match finding.severity {
            Severity::Error => {
                tracing::error!(object = finding.object, origin = %finding.origin, field = finding.field, "{}", finding.message)
            }
            Severity::Warning => {
                tracing::warn!(object = finding.object, origin = %finding.origin, field = finding.field, "{}", finding.message)
            }
        }
    }
}

/// The line that programs wait for, and what a person may do next.
fn greet(config: &Config, world: &World, [grpc, tls, http]: &[SocketAddr; 3]) -> anyhow::Result<()> {
    write_out(&format!("eastwest ready grpc={grpc} tls={tls} http={http}"))?;
    let (directory, state) = (config.config_dir.display(), config.state_dir.display());
    let example =
        world.snapshot.workloads().next().map_or("NAMESPACE/POD".to_owned(), |one| one.key().to_string());
    write_out(&format!(
        "\n  manifests     {directory} (followed)\n  trust anchor  {state}/root-cert.pem\n  \
         xDS and CA    {tls} (TLS)\n  xDS, local    {grpc} (plaintext)\n  pages         http://{http}/debug/list\n\n\
         Try next:\n  eastwest tls {example} --server http://{http}\n  eastwest check --server http://{http}\n  \
         eastwest token --service-account default/default --state-dir {state}\n"
    ))
}
