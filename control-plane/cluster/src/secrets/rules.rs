//! The two Secrets that we write: what makes their content good, and what is added to it.

use eastwest_ca_server::{
    StateError,
    root_files::{RootFiles, SVID_KEY},
    roots::check_memory,
    storage::{Access, StateFiles},
};
use time::OffsetDateTime;

use super::files::Files;

/// Keys that istiod has in its Secret beside those of the signer.
const ROOTS: &str = "root-cert.pem";
const CHAIN: &str = "cert-chain.pem";

/// A Secret that keeps a part of the CA's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Our own roots, their keys and the record of the rotation, as istiod has it.
    Roots,
    /// What else the replicas share.
    Shared,
}

impl Which {
    pub(super) const ALL: [Self; 2] = [Self::Roots, Self::Shared];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Roots => super::ROOTS_SECRET,
            Self::Shared => super::SHARED_SECRET,
        }
    }

    /// The type of the Secret.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Roots => "istio.io/ca-root",
            Self::Shared => "eastwest.dev/ca-state",
        }
    }
}

/// Whether the content can be used.
///
/// # Errors
/// What is wrong, by Secret and key.
pub(super) fn check(which: Which, files: &Files, now: OffsetDateTime) -> Result<(), StateError> {
    match which {
        Which::Roots => RootFiles::of(files).load(now).map(|_| ()),
        Which::Shared => {
            if files.exists(SVID_KEY) {
                RootFiles::of(files).svid_key()?;
            }
            check_memory(files, now)
        }
    }
}

/// Adds the keys that are there for others.
///
/// # Errors
/// The roots cannot be loaded.
pub(super) fn complete(which: Which, files: &Files) -> Result<(), StateError> {
    if which == Which::Shared {
        return Ok(());
    }
    let roots = RootFiles::of(files).load(OffsetDateTime::now_utc())?;
    files.replace(ROOTS, roots.bundle.pem().as_bytes(), Access::Public)?;
    files.create(CHAIN, b"", Access::Public).map(|_| ())
}
