//! Configuration of the signer and the roots of the CA.

use std::{path::PathBuf, time::Duration};

use eastwest_ca::{NewKey, NewRoot};
use eastwest_ca_server::{KeyMaterial, RootManager, RootsConfig, RootsError, StateDir};
use eastwest_model::TrustDomain;
use time::OffsetDateTime;

/// The validated configuration of signer and roots.
pub(crate) struct RootConfig {
    /// Where a CA may be plugged in.
    pub(crate) ca_dir: Option<PathBuf>,
    /// The kind of key of a root that is made.
    pub(crate) key: NewKey,
    /// How long such a root lives, if not as long as usual.
    pub(crate) life: Option<Duration>,
    /// Whether it is rotated automatically.
    pub(crate) automatic_rotation: bool,
}

impl RootConfig {
    /// What a root of `trust_domain` is.
    pub(crate) fn new_root(&self, trust_domain: &TrustDomain) -> NewRoot {
        let usual = NewRoot::of(trust_domain.clone());
        NewRoot { key: self.key, life: self.life.unwrap_or(usual.life), ..usual }
    }

    /// Opens the sources; returns the manager that follows them, and the key material to start with.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub(super) fn open(
        &self,
        state: &StateDir,
        trust_domain: &TrustDomain,
    ) -> Result<(RootManager, KeyMaterial), RootsError> {
        let config = RootsConfig {
            state: state.clone(),
            ca_dir: self.ca_dir.clone(),
            new_root: self.new_root(trust_domain),
            automatic_rotation: self.automatic_rotation,
        };
        RootManager::open(config, OffsetDateTime::now_utc())
    }
}
