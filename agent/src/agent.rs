//! Puts the parts together: one task each for rotation, SDS and status, and the command supervised.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_xds::View;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    certificate::{
        client::{Ask, CaClient, system_clock},
        rotation::{Held, Rotation},
        svid::Svid,
        written,
    },
    config::{AgentConfig, ConfigError, Settings},
    envoy::{admin::EnvoyAdmin, bootstrap},
    file_secrets::FileSecrets,
    files,
    sds::{self, SocketError},
    shutdown::Shutdown,
    status::{self, Status},
    supervisor::{SpawnError, Supervisor, starts_envoy, without_hot_restart},
    trust::{self, Bundles},
    workload_api::{Guarded, Sources, WorkloadApi},
};

/// Why the agent ends without having been asked to. A control plane that is away is no reason: the agent
/// goes on trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The configuration has mistakes, one line each.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or directory of ours cannot be written.
    #[error("cannot write {path}: {source}; are --dir and --write-certs writable?")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// The socket of the secret discovery service cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The status port cannot be had, or failed later.
    #[error("cannot serve the status port {port}: {source}; choose another --status-port")]
    StatusPort {
        /// The port asked for.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The command cannot be started.
    #[error(transparent)]
    Command(#[from] SpawnError),
    /// A part of the agent ended by a mistake of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Runs the agent until `shutdown` is requested or the command has ended well; answers the exit code:
/// that of the command, 128 and the signal's number if a signal ended it, 0 without a command.
///
/// Once the first certificate is held it prints `eastwest agent ready sds=… bootstrap=…` on standard
/// output, and only then starts the command.
///
/// # Errors
/// See [`AgentError`]; all mistakes of the configuration come at once.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<u8, AgentError> {
    let settings = Arc::new(Settings::parse(config)?);
    let stop = CancellationToken::new();
    let _stop_at_end = stop.clone().drop_guard();
    let mut parts = JoinSet::new();

    create_dir(&settings.dir)?;
    // First the socket and the port, so that a second agent by mistake disturbs nothing of the first.
    let socket = sds::Socket::bind(settings.sds_socket()).await?;
    let status_port = bind_status_port(settings.config.status_port).await?;
    write_bootstrap(&settings)?;

    let held = start_rotation(&settings, &mut parts);
    let certified = start_writing(&settings, &held, &mut parts)?;
    let bundles = start_trust(&settings, &held, &mut parts);
    let sources = Sources { held: held.clone(), bundles, clock: system_clock() };
    let workload_api = WorkloadApi::new(sources, ca_client(&settings), stop.clone());
    start_secrets(&settings, &held, (socket, workload_api.guarded()), &mut parts, &stop);
    start_status(&settings, &held, status_port, &mut parts, &stop);
    tokio::select! {
        code = run_command(&settings, certified, &shutdown) => code,
        Some(ended) = parts.join_next() => Err(match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => AgentError::Internal("a part of the agent ended".into()),
            Err(error) => AgentError::Internal(error.to_string()),
        }),
    }
}

type Parts = JoinSet<Result<(), AgentError>>;
type Certified = watch::Receiver<Option<Arc<Svid>>>;

fn write_bootstrap(settings: &Settings) -> Result<(), AgentError> {
    let path = settings.bootstrap_file();
    let text = bootstrap::yaml(settings).map_err(|error| AgentError::Internal(error.to_string()))?;
    files::write_atomically(&path, text.as_bytes(), files::PUBLIC)
        .map_err(|source| AgentError::Write { path, source })
}

fn create_dir(dir: &Path) -> Result<(), AgentError> {
    let failed = |source| AgentError::Write { path: dir.to_owned(), source };
    files::create_private_dir(dir).map_err(failed)
}

fn ca_client(settings: &Settings) -> CaClient {
    CaClient::new(Ask::from(settings), system_clock())
}

fn start_rotation(settings: &Arc<Settings>, parts: &mut Parts) -> Held {
    let (rotation, held) = Rotation::new(ca_client(settings), system_clock());
    parts.spawn(async {
        rotation.run().await;
        Ok(())
    });
    held
}

/// Says when a certificate is held, and written if it is to be.
fn start_writing(settings: &Settings, held: &Held, parts: &mut Parts) -> Result<Certified, AgentError> {
    let Some(dir) = settings.config.write_certs.clone() else { return Ok(held.svid.clone()) };
    create_dir(&dir)?;
    let (writer, certified) = watch::channel(None);
    let svid = held.svid.clone();
    parts.spawn(async {
        written::follow(svid, dir, writer).await;
        Ok(())
    });
    Ok(certified)
}

/// Follows the trust bundles that the control plane publishes.
fn start_trust(settings: &Settings, held: &Held, parts: &mut Parts) -> watch::Receiver<Arc<Bundles>> {
    let (sender, bundles) = watch::channel(Arc::default());
    let following = trust::follow(ca_client(settings), held.clone(), sender);
    parts.spawn(async {
        following.await;
        Ok(())
    });
    bundles
}

fn start_secrets(
    settings: &Settings,
    held: &Held,
    (socket, workload_api): (sds::Socket, Guarded),
    parts: &mut Parts,
    stop: &CancellationToken,
) {
    let (publisher, view) = watch::channel(Arc::new(View::new([])));
    let (asked, wanted) = watch::channel(BTreeSet::new());
    let files = FileSecrets::new(settings.config.certificate_dirs.clone());
    let (held, ca_root, stop) = (held.clone(), settings.config.ca_root.clone(), stop.clone());
    parts.spawn(async {
        sds::publish(held, ca_root, files, wanted, publisher).await;
        Ok(())
    });
    parts.spawn(async move {
        let served = socket.serve(view, asked, workload_api, stop).await;
        served.map_err(|error| AgentError::Internal(error.to_string()))
    });
}

async fn bind_status_port(port: u16) -> Result<TcpListener, AgentError> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    let listener = listener.map_err(|source| AgentError::StatusPort { port, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "status port");
    }
    Ok(listener)
}

fn start_status(
    settings: &Settings,
    held: &Held,
    listener: TcpListener,
    parts: &mut Parts,
    stop: &CancellationToken,
) {
    let status = Status { held: held.clone(), clock: system_clock(), envoy: envoy(settings) };
    let (port, stop) = (settings.config.status_port, stop.clone());
    parts.spawn(async move {
        let serving = axum::serve(listener, status::routes(status));
        let served = serving.with_graceful_shutdown(stop.cancelled_owned()).await;
        served.map_err(|source| AgentError::StatusPort { port, source })
    });
}

/// The admin interface of the Envoy that is supervised, if one is.
fn envoy(settings: &Settings) -> Option<EnvoyAdmin> {
    starts_envoy(&settings.config.command).then_some(EnvoyAdmin { port: settings.config.admin_port })
}

/// Waits for the first certificate, says so, and runs the command or waits for the end.
async fn run_command(
    settings: &Settings,
    mut certified: Certified,
    shutdown: &Shutdown,
) -> Result<u8, AgentError> {
    tokio::select! {
        first = certified.wait_for(Option::is_some) => if first.is_err() {
            return Err(AgentError::Internal("the rotation of certificates has ended".into()));
        },
        () = shutdown.requested.cancelled() => return Ok(0),
    }
    say_ready(settings);
    let config = &settings.config;
    if config.command.is_empty() {
        shutdown.requested.cancelled().await;
        return Ok(0);
    }
    let supervisor = Supervisor {
        command: without_hot_restart(config.command.clone()),
        workload_api: format!("unix:{}", settings.sds_socket().display()),
        envoy: envoy(settings),
        drain_time: config.drain_time,
        stop_time: config.stop_time,
    };
    Ok(supervisor.run(shutdown).await?)
}

fn say_ready(settings: &Settings) {
    let (socket, bootstrap) = (settings.sds_socket(), settings.bootstrap_file());
    let mut stdout = io::stdout().lock();
    // Nobody may be reading.
    let _ =
        writeln!(stdout, "eastwest agent ready sds={} bootstrap={}", socket.display(), bootstrap.display());
    let _ = stdout.flush();
}
