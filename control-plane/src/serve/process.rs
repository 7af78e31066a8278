//! A serving process from start to end: signals, state directory, certificate authority, background tasks, drain. Every
//! kind of server uses it; a kind decides where its input and its signer come from, and what it serves.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use eastwest_ca_server::{CertificateAuthority, StateDir, StateLock};
use eastwest_model::TrustDomain;
use tokio::task::JoinSet;

use super::{
    ca::{self, CaConfig, Place},
    shutdown::Shutdown,
    signer::SignerSource,
};

/// A process that serves until SIGTERM or SIGINT.
pub(super) struct Process {
    shutdown: Shutdown,
    background: JoinSet<()>,
    /// Locked for as long as the process runs.
    state: Option<LockedState>,
}

impl Process {
    /// Handles the signals from now on.
    ///
    /// # Errors
    /// The process may not handle them.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { shutdown: Shutdown::on_signals()?, background: JoinSet::new(), state: None })
    }

    /// The shutdown of this process.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Keeps `state` locked until the process ends.
    pub(super) fn keep(&mut self, state: LockedState) {
        self.state = Some(state);
    }

    /// Starts a task that must not end before the process does.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Starts the CA at `place`: opens and follows its signer, renews its serving certificate, follows its proofs of
    /// identity.
    ///
    /// # Errors
    /// A signer or a configured file that cannot be used.
    pub(super) async fn start_ca(
        &mut self,
        config: &CaConfig,
        signer: &SignerSource,
        trust_domain: TrustDomain,
        place: &Place<'_>,
    ) -> anyhow::Result<Arc<CertificateAuthority>> {
        let (roots, keys) = signer.open(place.state, &trust_domain)?;
        let ca = ca::start(config, keys, trust_domain, place).await?;
        roots.map(|roots| roots.follow(&ca)).transpose()?;
        self.spawn(ca.clone().renew_serving_certificate());
        self.spawn(ca.clone().follow_proofs());
        Ok(ca)
    }

    /// Waits until `serving` ends. After the first signal, connections have a limited time to end.
    ///
    /// # Errors
    /// Those of `serving`, and a background task that ended.
    pub(super) async fn run(
        mut self,
        serving: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.shutdown.bound(serving) => ended,
            _ = self.background.join_next() => {
                bail!("a background task ended; this is a defect of eastwest")
            }
        }
    }
}

/// Where a process keeps its state.
pub(crate) enum StatePlace {
    /// In a directory that stays.
    Kept(PathBuf),
    /// In a directory for this run, removed at its end.
    Temporary,
}

/// A state directory that no other process can use meanwhile.
pub(super) struct LockedState {
    pub(super) dir: StateDir,
    _lock: StateLock,
    _temporary: Option<tempfile::TempDir>,
}

impl StatePlace {
    /// Opens and locks the directory.
    ///
    /// # Errors
    /// It cannot be used, or another process uses it.
    pub(super) fn open(&self) -> anyhow::Result<LockedState> {
        let (path, temporary) = match self {
            Self::Kept(path) => (path.clone(), None),
            Self::Temporary => {
                let directory = temporary_directory()?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let dir = StateDir::open(&path)?;
        let lock = dir.lock()?;
        Ok(LockedState { dir, _lock: lock, _temporary: temporary })
    }
}

impl LockedState {
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A directory that only this user can access.
fn temporary_directory() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("eastwest-ca-").permissions(Permissions::from_mode(0o700)).tempdir();
    directory.context("--ephemeral: no directory can be made; is TMPDIR writable?")
}
