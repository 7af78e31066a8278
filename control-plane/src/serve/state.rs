//! Where a server keeps what must outlive it: a directory, or in a cluster Secrets.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use eastwest_ca_server::{LedgerConfig, StateDir, StateLock, storage::CaStorage};
use eastwest_cluster::CaSecrets;
use eastwest_kubernetes::Statuses;

/// Where a process keeps its state.
pub(crate) enum StatePlace {
    /// In a directory that stays.
    Kept(PathBuf),
    /// In a directory for this run, removed at its end.
    Temporary,
    /// Keys in Secrets; the ledger in a directory, if there is one.
    Cluster {
        /// The directory.
        directory: Option<PathBuf>,
    },
}

/// The state of a process.
pub(super) enum State {
    /// Everything in a directory.
    Directory(LockedDir),
    /// The CA in Secrets, the ledger in a directory if there is one.
    Cluster {
        /// The Secrets.
        secrets: CaSecrets,
        /// The directory.
        directory: Option<LockedDir>,
    },
}

/// A state directory that no other process can use meanwhile.
pub(super) struct LockedDir {
    dir: StateDir,
    _lock: StateLock,
    _temporary: Option<tempfile::TempDir>,
}

impl StatePlace {
    /// Opens and locks the directory, if there is one.
    ///
    /// # Errors
    /// It cannot be used, or another process uses it.
    pub(super) fn open_directory(&self) -> anyhow::Result<Option<LockedDir>> {
        let (path, temporary) = match self {
            Self::Cluster { directory: None } => return Ok(None),
            Self::Kept(path) | Self::Cluster { directory: Some(path) } => (path.clone(), None),
            Self::Temporary => {
                let directory = temporary_directory()?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let dir = StateDir::open(&path)?;
        let lock = dir.lock()?;
        Ok(Some(LockedDir { dir, _lock: lock, _temporary: temporary }))
    }
}

impl State {
    /// Where the CA keeps its state.
    pub(super) fn storage(&self) -> Arc<dyn CaStorage> {
        match self {
            Self::Directory(locked) => locked.dir.clone().into(),
            Self::Cluster { secrets, .. } => secrets.storage(),
        }
    }

    /// The state of the watches of the Secrets, if the CA is in Secrets.
    pub(super) fn statuses(&self) -> Option<Statuses> {
        match self {
            Self::Directory(_) => None,
            Self::Cluster { secrets, .. } => Some(secrets.statuses()),
        }
    }

    /// The directory, if there is one.
    pub(super) fn directory(&self) -> Option<&StateDir> {
        match self {
            Self::Directory(locked) => Some(&locked.dir),
            Self::Cluster { directory, .. } => directory.as_ref().map(|locked| &locked.dir),
        }
    }

    /// The ledger. Without a directory its records go to the log.
    pub(super) fn ledger(&self) -> Option<LedgerConfig> {
        self.directory().map(|dir| LedgerConfig::of(dir.path()))
    }

    /// The path of the directory, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.directory().map(StateDir::path)
    }
}

/// A directory that only this user can access.
fn temporary_directory() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("eastwest-ca-").permissions(Permissions::from_mode(0o700)).tempdir();
    directory.context("--ephemeral: no directory can be made; is TMPDIR writable?")
}
