//! Tests of the whole agent, and the fakes for all tests: a certificate authority, the same over the wire, an
//! SDS client.

use std::path::{Path, PathBuf};

pub(crate) mod agent;
pub(crate) mod ca;
pub(crate) mod sds;
pub(crate) mod server;
mod whole;
mod workload_api;

/// HeldCertificate for writing by a test that signals this process, for reading by those whose commands would get it.
pub(crate) static SIGNALS: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Stock Envoy: the one that `EASTWEST_ENVOY` names, else the one that `cargo xtask tools` fetched. Without
/// one says that `test` is skipped.
pub(crate) fn stock_envoy(test: &str) -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy");
    let named = std::env::var_os("EASTWEST_ENVOY").map(PathBuf::from);
    let found = named.or_else(|| fetched.is_file().then_some(fetched));
    if found.is_none() {
        eprintln!("SKIPPED: {test}: no Envoy; `cargo xtask tools` fetches it, EASTWEST_ENVOY names another");
    }
    found
}
