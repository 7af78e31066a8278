//! The servers of this program. [`run`] serves a mesh: input, publisher, certificate authority, ports.
//! [`run_standalone`] serves a certificate authority without a mesh. Both start and end as a [`process`].

mod access;
mod answering;
mod authorizer;
mod browser;
mod bundles;
mod ca;
mod change_log;
mod cluster;
mod http;
mod idle_thread;
mod input;
mod mesh_settings;
mod metrics;
mod pages;
mod ports;
mod process;
mod proofs;
mod proxies;
mod publisher;
mod shutdown;
mod signer;
mod sources;
mod standalone;
mod startup;
mod state;
mod unread;

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use eastwest_ca_server::CertificateAuthority;
use eastwest_io::stdio;
use eastwest_model::MeshConfig;
use eastwest_xds_server::XdsServer;
use serde_json::json;
use tokio::sync::watch;

pub(crate) use self::{
    access::DebugAccess,
    bundles::{BundleConfig, EndpointConfig},
    ca::CaConfig,
    cluster::ClusterConfig,
    input::InputSource,
    ports::PortAddresses,
    proofs::{
        JobConfig, KeyPlace, KubernetesConfig, NodeConfig, ProvingConfig, TokenConfig, TokenIssuerConfig,
    },
    signer::{RootConfig, SignerSource},
    standalone::{StandaloneConfig, run as run_standalone},
    state::StatePlace,
};
use self::{
    answering::Answering,
    authorizer::{ProxyAuthorizer, ProxyViews},
    bundles::Endpoint,
    ca::Place,
    input::Followed,
    pages::Served,
    ports::{Ports, Services},
    process::Process,
    proofs::WatchedPods,
    publisher::Publisher,
    signer::TrustDomainChoice,
    sources::Sources,
    startup::Startup,
    state::State,
};
use crate::{config::replica, query::World};

/// The configuration of `eastwest serve`, valid.
pub(crate) struct Config {
    pub(crate) input: InputSource,
    pub(crate) state: StatePlace,
    pub(crate) mesh: MeshConfig,
    pub(crate) ports: PortAddresses,
    pub(crate) debug_access: DebugAccess,
    pub(crate) ca: CaConfig,
    pub(crate) signer: SignerSource,
    pub(crate) bundles: BundleConfig,
}

/// What the HTTP pages of a mesh show, besides those of every server.
struct Shared {
    world: watch::Receiver<World>,
    sources: Sources,
    xds: XdsServer,
    answering: Answering,
}

/// Runs the control plane until SIGTERM.
///
/// # Errors
/// What prevents the start: a port in use, an unusable state directory, a missing input.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let mut process = Process::start()?;
    let shutdown = process.shutdown().clone();
    let startup = Startup::new(shutdown.clone());
    let ports = Ports::bind(&config.ports, startup.pages(config.debug_access), &shutdown).await?;
    let started = tokio::select! {
        started = start(&config, ports.addresses()?, &startup, &mut process) => Some(started?),
        // The start may wait for the Kubernetes API.
        () = shutdown.requested() => None,
    };
    let Some((services, source)) = started else { return Ok(()) };
    let serving = process.run(ports.serve(services, shutdown.clone()));
    let Followed::Kubernetes(cluster) = source else { return serving.await };
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => {
            cluster.end().await;
            served
        }
        // The Lease is given up while connections drain.
        () = shutdown.requested() => tokio::join!(serving, cluster.end()).0,
    }
}

/// Starts everything behind the ports. It is ready when this returns.
async fn start(
    config: &Config,
    addresses: PortAddresses,
    startup: &Startup,
    process: &mut Process,
) -> anyhow::Result<(Services, Followed)> {
    let endpoint = Endpoint::bind(config.bundles.endpoint.as_ref()).await?;
    let endpoint_address = endpoint.as_ref().map(Endpoint::address).transpose()?;
    let (mut source, mut input) = config.input.follow(&config.mesh, process).await?;
    let state = open_state(config, &source)?;
    let sources = source.sources(state.statuses());
    startup.follows(sources.clone());
    let refused = source.refused_settings();
    let first =
        input.first(&config.mesh, startup, &refused).await.context("the input ended before it was read")?;
    let (publisher, subscribers, world) = Publisher::new(config.mesh.clone(), input, first);
    startup.waits("the certificate authority is starting");
    let mesh = world.borrow().snapshot.mesh().clone();
    let pods = Some(Arc::new(WatchedPods { world: world.clone(), accounts: source.accounts() }) as _);
    let pod_patience = source.pod_patience();
    let place = Place {
        root_namespace: &mesh.root_namespace,
        tls: addresses.tls.ip(),
        state: &state,
        pods,
        spent_tokens: source.spent_tokens(),
        pod_patience,
    };
    let name = mesh.trust_domain.clone();
    let trust_domain = TrustDomainChoice { by_flag: name == config.mesh.trust_domain, name };
    let ca = process.start_ca(&config.ca, &config.signer, trust_domain, &place, startup).await?;

    let shutdown = process.shutdown().clone();
    let views = ProxyViews { subscribers, world: world.clone(), pod_patience };
    let authorizer = |peer_authenticator| ProxyAuthorizer { peer_authenticator, views: views.clone() };
    let plaintext_xds = XdsServer::new(Arc::new(authorizer(None)), shutdown.token());
    let xds = XdsServer::new(Arc::new(authorizer(Some(ca.peer_authenticator()))), shutdown.token())
        .sharing(plaintext_xds.connections())
        .identified_by(&identifier());
    let svid_key = bundles::svid_key(&state, startup).await?;
    let (bundle, identity) =
        bundles::start(&config.bundles, endpoint, &ca, (&state, svid_key), &mesh, process)?;
    let metrics = metrics::registry(&ca)?;
    metrics::register_mesh(&metrics, Arc::clone(xds.connections()), world.clone(), sources.clone())?;
    let shared = Shared { world: world.clone(), sources, xds: xds.clone(), answering: Answering::default() };
    let served = Served { ca: ca.clone(), bundle, metrics, shutdown };

    process.spawn(publisher.start().context("a thread for the publisher")?);
    process.spawn(follow_trust_domain(ca.clone(), world.clone()));
    if let Followed::Kubernetes(cluster) = &mut source {
        metrics::register_leader(&served.metrics, cluster.leads(), cluster.other_leader())?;
        cluster.write(&ca, world.clone(), process);
        if config.ca.proving.jobs.is_some() {
            process.spawn(cluster.remove_spent_tokens());
        }
        cluster.publish(startup).await;
    }
    startup.ends(http::routes(shared, served));
    let signer = ca.root_status().map(|status| status.source.to_string());
    print_ready(&source, &state, (&world.borrow().clone(), signer), &addresses, endpoint_address);
    process.keep(state);
    Ok((Services { plaintext_xds: Some(plaintext_xds), xds: Some(xds), ca, identity }, source))
}

/// Who we are, as programs for istiod read it in the answers to debug types.
fn identifier() -> String {
    let info = json!({"version": env!("CARGO_PKG_VERSION")});
    json!({"Component": "eastwest", "ID": replica(), "Info": info}).to_string()
}

/// Opens the state directory or the Secrets.
fn open_state(config: &Config, source: &Followed) -> anyhow::Result<State> {
    let directory = config.state.open_directory()?;
    Ok(match (source, directory) {
        (Followed::Kubernetes(cluster), directory) => {
            State::Cluster { secrets: cluster.secrets(config.ca.lifetimes.maximum()), directory }
        }
        (Followed::Directory(_), Some(directory)) => State::Directory(directory),
        (Followed::Directory(_), None) => bail!("directory mode needs a --state-dir"),
    })
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

/// Prints the line that programs wait for, and what to do next.
fn print_ready(
    source: &Followed,
    state: &State,
    (world, signer): (&World, Option<String>),
    addresses: &PortAddresses,
    endpoint: Option<SocketAddr>,
) {
    let PortAddresses { plaintext, tls, http } = addresses;
    let grpc = plaintext.map_or_else(String::new, |address| format!(" grpc={address}"));
    let bundle = endpoint.map_or_else(String::new, |address| format!(" bundle={address}"));
    stdio::stdout().line(&format!("eastwest ready{grpc} tls={tls} http={http}{bundle}"));
    let local =
        plaintext.map_or_else(String::new, |address| format!("  xDS, local    {address} (plaintext)\n"));
    let example = world.example();
    let workload = example.map_or("NAMESPACE/POD".to_owned(), |one| one.key().to_string());
    let account = example.map_or("NAMESPACE/SERVICE-ACCOUNT".to_owned(), |one| {
        format!("{}/{}", one.meta.namespace(), one.service_account.as_deref().unwrap_or("default"))
    });
    let (anchor, last) = match (source, state.path()) {
        (Followed::Kubernetes(cluster), _) => (
            format!(
                "ConfigMap istio-ca-root-cert in every namespace\n  signer        {}",
                signer.unwrap_or_else(|| format!("Secrets of namespace {}", cluster.namespace()))
            ),
            format!("eastwest status --sources --server http://{http}"),
        ),
        (Followed::Directory(_), path) => {
            let state = path.unwrap_or(Path::new("")).display();
            let token = format!("eastwest token --service-account {account} --state-dir {state}");
            (format!("{state}/root-cert.pem"), token)
        }
    };
    stdio::stdout().line(&format!(
        "\n  {source} (followed)\n  trust anchor  {anchor}\n  \
         xDS and CA    {tls} (TLS)\n{local}  pages         http://{http}/debug/list\n\n\
         Try next:\n  eastwest tls {workload} --server http://{http}\n  eastwest check --server http://{http}\n  \
         {last}\n"
    ));
}
