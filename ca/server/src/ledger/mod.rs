//! The ledger on disk. Nothing is returned to a caller before its record is written.
//!
//! One thread writes. It takes all records that wait, appends them with a checkpoint in one write, has the system put
//! them on the disk (`fdatasync`), and only then lets the answers go: many requests share the cost of one commit. If a
//! commit fails, its certificates are thrown away and the requests are answered Unavailable. The command line may
//! append beside a server: a lock is held during each commit, and what others have appended is read first.
//!
//! A CA without a directory writes each record to the log instead (target `ledger`) and keeps none.

mod book;
mod journal;
mod read;
mod segment;
mod writer;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

pub(crate) use journal::Journal;
pub use read::{Query, ReadError, query, verify};
pub use writer::Unwritten;
pub(crate) use writer::{LedgerState, Writer};

/// Name of the folder in a state directory.
const FOLDER: &str = "ledger";

/// Where the ledger is kept and when a new file is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// The directory; made with mode 0700.
    pub dir: PathBuf,
    /// A file is followed by another once it has this many bytes.
    pub segment_bytes: u64,
    /// Or once it is this old.
    pub segment_age: Duration,
}

impl LedgerConfig {
    /// The ledger of a state directory: 16 MiB or 30 days a file.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(FOLDER),
            segment_bytes: 16 << 20,
            segment_age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// Why the ledger cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The newest file is damaged where no crash could have damaged it.
    #[error(
        "{}: line {line} does not follow the one before it, and it is not the end of an unfinished write; see \
         `eastwest ca ledger verify`, then move the directory away to begin a new ledger, and keep it", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// The files do not follow each other.
    #[error(
        "{}: {reason}; see `eastwest ca ledger verify`, and put the files back as they were; or move the directory away to \
         begin a new ledger, and keep it", path.display()
    )]
    Sequence {
        /// Which file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The newest file was moved away, cut or replaced while it was in use.
    #[error("{}: is not the file any more that the ledger was written to; put it back, or restart", .0.display())]
    Replaced(PathBuf),
    /// The key cannot sign, or is readable by others.
    #[error("{}: {reason}; restore it from a backup, or move it away to go on with a new one", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A record cannot be written or signed.
    #[error("{0}")]
    Record(String),
}

/// Adds the action and the file to an error of the system.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
