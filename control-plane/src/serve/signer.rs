//! Where the key and the roots of the certificate authority come from.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use eastwest_ca::{NewKey, NewRoot};
use eastwest_ca_server::{
    KeyMaterial, PluggedSource, RootManager, RootsConfig, StateDir, StateError, test_root,
};
use eastwest_model::TrustDomain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// What the CA signs with.
pub(crate) enum SignerSource {
    /// A plugged-in CA or the root of the state directory, followed while the process runs.
    Followed(RootConfig),
    /// A certificate and its key as PEM.
    Provided {
        /// The flags or variables that they come from, for messages.
        from: String,
        certificate: String,
        key: Zeroizing<String>,
    },
    /// The test root, whose key is published.
    Test,
}

/// A signer that is followed.
pub(crate) struct RootConfig {
    /// Directory of a plugged-in CA, if any.
    pub(crate) ca_dir: Option<PathBuf>,
    /// The kind of key of a new root.
    pub(crate) key: NewKey,
    /// Lifetime of a new root, if not the default.
    pub(crate) life: Option<Duration>,
    /// Whether our own root is rotated automatically.
    pub(crate) automatic_rotation: bool,
}

impl RootConfig {
    /// A new root of `trust_domain`.
    pub(crate) fn new_root(&self, trust_domain: &TrustDomain) -> NewRoot {
        let usual = NewRoot::of(trust_domain.clone());
        NewRoot { key: self.key, life: self.life.unwrap_or(usual.life), ..usual }
    }
}

impl SignerSource {
    /// Opens the source. Returns the key material to start with, and what follows its changes if it can change.
    ///
    /// # Errors
    /// The source cannot be used, or `state` has a root although another one is given.
    pub(super) fn open(
        &self,
        state: &StateDir,
        trust_domain: &TrustDomain,
    ) -> anyhow::Result<(Option<RootManager>, KeyMaterial)> {
        let now = OffsetDateTime::now_utc();
        let provided = match self {
            Self::Followed(config) => {
                let roots = RootsConfig {
                    state: state.clone().into(),
                    plugged_in: config.ca_dir.clone().map(PluggedSource::Directory),
                    new_root: config.new_root(trust_domain),
                    automatic_rotation: config.automatic_rotation,
                };
                let (manager, keys) = RootManager::open(roots, now)?;
                return Ok((Some(manager), keys));
            }
            Self::Provided { from, certificate, key } => {
                KeyMaterial::given(certificate, key, now).with_context(|| from.clone())?
            }
            Self::Test => test_root::key_material(now)?,
        };
        match state.load(now) {
            Err(StateError::NoCa(_)) => Ok((None, state.adopt(provided)?)),
            Ok(_) => bail!(
                "--state-dir: {} has a root of its own (ca-cert.pem): leave the given one away to sign with that, or \
                 choose another directory or --ephemeral to sign with the given one",
                state.path().display()
            ),
            Err(error) => Err(error.into()),
        }
    }
}
