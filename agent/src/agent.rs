//! The tasks of the agent: rotation, trust bundles, SDS and Workload API, status port; and the supervised command.

use axum::Router;
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_io::{files, http, stdio};
use eastwest_xds::{ResourceSet, TypeUrl, View};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    app_health::{self, AppHealth},
    certificate::{
        self,
        client::{CaClient, CaClientConfig, system_clock},
        rotation::{HeldCertificate, Rotation},
        svid::Svid,
    },
    config::{AgentConfig, ConfigError, Settings},
    envoy::{admin::EnvoyAdmin, bootstrap},
    file_secrets::FileSecrets,
    sds::{self, SocketError},
    shutdown::Shutdown,
    status::{self, Status},
    supervisor::{SpawnError, Supervisor, starts_envoy, without_hot_restart},
    trust_bundles::{self, Bundles},
    workload_api::{Sources, WorkloadApi, WorkloadApiService},
};

/// Why the agent ends without a request to do so. An unreachable control plane is no reason: the agent keeps trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The configuration has mistakes, one line each.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or directory of the agent cannot be written.
    #[error("cannot write {path}: {source}; are --dir and --write-certs writable?")]
    Write {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Somebody else could replace files of the agent.
    #[error(
        "{} is no directory for keys and for the configuration of Envoy: {reason}; take one of this user alone, such as {}, which \
         is made with mode 0700", path.display(), path.join("agent").display()
    )]
    Shared {
        /// Its path.
        path: PathBuf,
        /// Who may write to it.
        reason: String,
    },
    /// The socket of the secret discovery service cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port of status or probes cannot be opened, or failed later.
    #[error("cannot serve the port {port}: {source}; choose another {flag}")]
    Port {
        /// The flag that names it.
        flag: &'static str,
        /// Its number.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// The command cannot be started.
    #[error(transparent)]
    Command(#[from] SpawnError),
    /// A task of the agent ended; this is a defect.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Runs the agent until `shutdown` is requested or the command has ended with 0. Returns the exit code: that of the
/// command, 128 plus the signal's number if a signal ended it, 0 without a command.
///
/// Once it holds the first certificate it prints `eastwest agent ready sds=… bootstrap=…` on standard output, and then
/// starts the command.
///
/// # Errors
/// See [`AgentError`]; all mistakes of the configuration are reported together.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<u8, AgentError> {
    let settings = Arc::new(Settings::parse(config)?);
    let stop = CancellationToken::new();
    let _stop_at_end = stop.clone().drop_guard();
    let mut tasks = JoinSet::new();

    create_dir(&settings.dir)?;
    // The socket and the port first, so that a second agent started by mistake does not disturb the first.
    let socket = sds::Socket::bind(settings.sds_socket()).await?;
    let status_ports = bind_port("--status-port", settings.config.status_port).await?;
    let probe_ports = match settings.app_probes.is_empty() {
        true => Vec::new(),
        false => bind_port("--app-probe-port", settings.config.app_probe_port).await?,
    };
    write_bootstrap(&settings)?;

    let held = start_rotation(&settings, &mut tasks);
    let certified = start_writing(&settings, &held, &mut tasks)?;
    let bundles = start_trust_bundles(&settings, &held, &mut tasks);
    let sources = Sources { held: held.clone(), bundles, clock: system_clock() };
    let workload_api = WorkloadApi::new(sources, ca_client(&settings), stop.clone());
    start_secrets(&settings, &held, (socket, workload_api.into_service()), &mut tasks, &stop);
    let envoy = envoy(&settings);
    start_app_health(&settings, probe_ports, &mut tasks, &stop);
    start_status((&held, envoy.clone()), status_ports, &mut tasks, &stop);
    tokio::select! {
        code = run_command(&settings, envoy, certified, &shutdown) => code,
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => AgentError::Internal("a part of the agent ended".into()),
            Err(error) => AgentError::Internal(error.to_string()),
        }),
    }
}

type Tasks = JoinSet<Result<(), AgentError>>;
type Certified = watch::Receiver<Option<Arc<Svid>>>;

fn write_bootstrap(settings: &Settings) -> Result<(), AgentError> {
    let path = settings.bootstrap_file();
    let text = bootstrap::yaml(settings).map_err(|error| AgentError::Internal(error.to_string()))?;
    files::replace(&path, text.as_bytes(), files::PUBLIC).map_err(|source| AgentError::Write { path, source })
}

fn create_dir(dir: &Path) -> Result<(), AgentError> {
    let failed = |source| AgentError::Write { path: dir.to_owned(), source };
    files::create_private_dir(dir).map_err(failed)?;
    match files::writers_beside_us(dir).map_err(failed)? {
        None => Ok(()),
        Some(reason) => Err(AgentError::Shared { path: dir.to_owned(), reason }),
    }
}

fn ca_client(settings: &Settings) -> CaClient {
    CaClient::new(CaClientConfig::from(settings), system_clock())
}

fn start_rotation(settings: &Arc<Settings>, tasks: &mut Tasks) -> HeldCertificate {
    let (rotation, held) = Rotation::new(ca_client(settings), system_clock());
    tasks.spawn(async {
        rotation.run().await;
        Ok(())
    });
    held
}

/// The certificate, once it is also written to `--write-certs` if that is given.
fn start_writing(
    settings: &Settings,
    held: &HeldCertificate,
    tasks: &mut Tasks,
) -> Result<Certified, AgentError> {
    let Some(dir) = settings.config.write_certs.clone() else { return Ok(held.svid.clone()) };
    create_dir(&dir)?;
    let (writer, certified) = watch::channel(None);
    let svid = held.svid.clone();
    tasks.spawn(async {
        certificate::files::follow(svid, dir, writer).await;
        Ok(())
    });
    Ok(certified)
}

/// Follows the trust bundles that the control plane publishes.
fn start_trust_bundles(
    settings: &Settings,
    held: &HeldCertificate,
    tasks: &mut Tasks,
) -> watch::Receiver<Arc<Bundles>> {
    let (sender, bundles) = watch::channel(Arc::default());
    let following = trust_bundles::follow(ca_client(settings), held.clone(), sender);
    tasks.spawn(async {
        following.await;
        Ok(())
    });
    bundles
}

fn start_secrets(
    settings: &Settings,
    held: &HeldCertificate,
    (socket, workload_api): (sds::Socket, WorkloadApiService),
    tasks: &mut Tasks,
    stop: &CancellationToken,
) {
    let (publisher, view) = watch::channel(Arc::new(View::new([])));
    let (asked, wanted) = watch::channel(BTreeMap::new());
    let (reader, read) = watch::channel(Arc::new(ResourceSet::new(TypeUrl::SECRET, [])));
    let files = FileSecrets::new(settings.config.certificate_dirs.clone());
    let (held, ca_root, stop) = (held.clone(), settings.config.ca_root.clone(), stop.clone());
    tasks.spawn(async {
        sds::follow_files(files, wanted, reader).await;
        Ok(())
    });
    tasks.spawn(async {
        sds::publish(held, ca_root, read, publisher).await;
        Ok(())
    });
    tasks.spawn(async move {
        let served = socket.serve(view, asked, workload_api, stop).await;
        served.map_err(|error| AgentError::Internal(error.to_string()))
    });
}

/// Binds the port at all addresses of both families. One socket takes both, unless the system separates them
/// (`net.ipv6.bindv6only`) or has no IPv6.
async fn bind_port(flag: &'static str, port: u16) -> Result<Vec<TcpListener>, AgentError> {
    let failed = |source| AgentError::Port { flag, port, source };
    let mut listeners = Vec::new();
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
        Err(error) => tracing::debug!(%error, flag, "no port over IPv6"),
    }
    let bound = listeners.first().map(TcpListener::local_addr).transpose().map_err(failed)?;
    let port_of_both = bound.map_or(port, |address| address.port());
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port_of_both)).await {
        Ok(listener) => listeners.push(listener),
        Err(error) if listeners.is_empty() => return Err(failed(error)),
        Err(error) => tracing::debug!(%error, flag, "the port takes IPv4 and IPv6 on one socket"),
    }
    for address in listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
        tracing::info!(%address, flag, "port");
    }
    Ok(listeners)
}

/// The port for probes of the application.
fn start_app_health(
    settings: &Settings,
    listeners: Vec<TcpListener>,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) {
    // There is at least one address.
    let health = AppHealth { probes: Arc::new(settings.app_probes.clone()), address: settings.ips[0] };
    serve_pages(listeners, &app_health::routes(health), tasks, stop);
}

fn start_status(
    (held, envoy): (&HeldCertificate, Option<EnvoyAdmin>),
    listeners: Vec<TcpListener>,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) {
    let status = Status { held: held.clone(), clock: system_clock(), envoy };
    serve_pages(listeners, &status::routes(status), tasks, stop);
}

/// The same pages at each listener.
fn serve_pages(listeners: Vec<TcpListener>, routes: &Router, tasks: &mut Tasks, stop: &CancellationToken) {
    for listener in listeners {
        let (routes, stop) = (routes.clone(), stop.clone());
        tasks.spawn(async move {
            http::serve(listener, routes, stop.cancelled_owned()).await;
            Ok(())
        });
    }
}

/// The admin interface of the supervised Envoy, if the command is one.
fn envoy(settings: &Settings) -> Option<EnvoyAdmin> {
    starts_envoy(&settings.config.command).then(|| EnvoyAdmin::at(settings.admin_address()))
}

/// Waits for the first certificate, prints the ready line, and runs the command or waits for the shutdown.
async fn run_command(
    settings: &Settings,
    envoy: Option<EnvoyAdmin>,
    mut certified: Certified,
    shutdown: &Shutdown,
) -> Result<u8, AgentError> {
    tokio::select! {
        first = certified.wait_for(Option::is_some) => if first.is_err() {
            return Err(AgentError::Internal("the rotation of certificates has ended".into()));
        },
        () = shutdown.requested.cancelled() => return Ok(0),
    }
    print_ready(settings);
    let config = &settings.config;
    if config.command.is_empty() {
        shutdown.requested.cancelled().await;
        return Ok(0);
    }
    let supervisor = Supervisor {
        command: without_hot_restart(config.command.clone()),
        workload_api: format!("unix:{}", settings.sds_socket().display()),
        launcher: config.launcher.clone(),
        envoy,
        drain_time: config.drain_time,
        stop_time: config.stop_time,
    };
    Ok(supervisor.run(shutdown).await?)
}

fn print_ready(settings: &Settings) {
    let (socket, bootstrap) = (settings.sds_socket(), settings.bootstrap_file());
    let (socket, bootstrap) = (socket.display(), bootstrap.display());
    stdio::stdout().line(&format!("eastwest agent ready sds={socket} bootstrap={bootstrap}"));
}
