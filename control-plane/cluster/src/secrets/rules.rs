//! What makes the content of a Secret good, and what is added to what we write.

use eastwest_ca_server::{
    StateError,
    root_files::{RootFiles, SVID_KEY},
    roots::check_memory,
    storage::{Access, StateFiles},
};
use time::OffsetDateTime;

use super::{files::Files, store::Which};

/// Keys that istiod has in its Secret beside those of the signer.
const ROOTS: &str = "root-cert.pem";
const CHAIN: &str = "cert-chain.pem";

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
