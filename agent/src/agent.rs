//! Puts the parts together: one task each for rotation, SDS and status, and the command supervised.

use std::{
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
        client::{CaClient, system_clock},
        rotation::{Held, Rotation},
        svid::Svid,
        written,
    },
    config::{AgentConfig, ConfigError, Settings},
    envoy::{admin::EnvoyAdmin, bootstrap},
    files, sds,
    shutdown::Shutdown,
    status::{self, Status},
    supervisor::{Supervisor, starts_envoy, without_hot_restart},
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
    /// The socket of the secret discovery service cannot be had, or failed later.
    #[error("secret discovery service: {0}")]
    Secrets(String),
    /// The status port cannot be had, or failed later.
    #[error("cannot serve the status port {port}: {source}; choose another --status-port")]
    StatusPort {
        /// The port asked for.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("{0}")]
    Command(String),
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

    write_bootstrap(&settings)?;
    let held = start_rotation(&settings, &mut parts);
    let certified = start_writing(&settings, &held, &mut parts)?;
    start_secrets(&settings, &held, &mut parts, &stop).await?;
    start_status(&settings, &held, &mut parts, &stop).await?;

    let code = tokio::select! {
        code = run_command(&settings, certified, &shutdown) => code,
        Some(ended) = parts.join_next() => Err(match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => AgentError::Internal("a part of the agent ended".into()),
            Err(error) => AgentError::Internal(error.to_string()),
        }),
    };
    let _ = std::fs::remove_file(settings.sds_socket());
    code
}

type Parts = JoinSet<Result<(), AgentError>>;
type Certified = watch::Receiver<Option<Arc<Svid>>>;

fn write_bootstrap(settings: &Settings) -> Result<(), AgentError> {
    create_dir(&settings.dir)?;
    let path = settings.bootstrap_file();
    let text = bootstrap::yaml(settings).map_err(|error| AgentError::Internal(error.to_string()))?;
    files::write_atomically(&path, text.as_bytes(), files::PUBLIC)
        .map_err(|source| AgentError::Write { path, source })
}

fn create_dir(dir: &Path) -> Result<(), AgentError> {
    let failed = |source| AgentError::Write { path: dir.to_owned(), source };
    files::create_private_dir(dir).map_err(failed)
}

fn start_rotation(settings: &Arc<Settings>, parts: &mut Parts) -> Held {
    let (rotation, held) = Rotation::new(CaClient::new(settings.clone(), system_clock()), system_clock());
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

async fn start_secrets(
    settings: &Settings,
    held: &Held,
    parts: &mut Parts,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    let failed = |error: &dyn std::fmt::Display| AgentError::Secrets(error.to_string());
    let listener = sds::bind(&settings.sds_socket()).await.map_err(|error| failed(&error))?;
    let (publisher, view) = watch::channel(Arc::new(View::new([])));
    let (held, ca_root, stop) = (held.clone(), settings.config.ca_root.clone(), stop.clone());
    parts.spawn(async {
        sds::publish(held, ca_root, publisher).await;
        Ok(())
    });
    parts.spawn(async move {
        sds::serve(listener, view, stop).await.map_err(|error| AgentError::Secrets(error.to_string()))
    });
    Ok(())
}

async fn start_status(
    settings: &Settings,
    held: &Held,
    parts: &mut Parts,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    let port = settings.config.status_port;
    let failed = move |source| AgentError::StatusPort { port, source };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "status port");
    let routes = status::routes(Status { held: held.clone(), clock: system_clock(), envoy: envoy(settings) });
    let stop = stop.clone();
    parts.spawn(async move {
        axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await.map_err(failed)
    });
    Ok(())
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
        envoy: envoy(settings),
        drain_time: config.drain_time,
        stop_time: config.stop_time,
    };
    supervisor.run(shutdown).await.map_err(|error| AgentError::Command(error.to_string()))
}

fn say_ready(settings: &Settings) {
    let (socket, bootstrap) = (settings.sds_socket(), settings.bootstrap_file());
    let mut stdout = io::stdout().lock();
    // Nobody may be reading.
    let _ =
        writeln!(stdout, "eastwest agent ready sds={} bootstrap={}", socket.display(), bootstrap.display());
    let _ = stdout.flush();
}
