//! Fakes for tests: a certificate authority, the same over the wire, an SDS client, a whole agent.

pub(crate) mod agent;
pub(crate) mod ca;
pub(crate) mod sds;
pub(crate) mod server;

/// Held for writing by a test that signals this process, for reading by those whose commands would get it.
pub(crate) static SIGNALS: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());
