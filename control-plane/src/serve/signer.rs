//! Where the key and the roots of the certificate authority come from.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use eastwest_ca::{NewKey, NewRoot, ServingNames};
use eastwest_ca_server::{KeyMaterial, PluggedSource, RootManager, RootsConfig, StateError, test_root};
use eastwest_cluster::CaSecrets;
use eastwest_model::TrustDomain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{startup::Startup, state::State};

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

/// The trust domain of a CA, and who chose it.
pub(super) struct TrustDomainChoice {
    /// The trust domain.
    pub(super) name: TrustDomain,
    /// Whether it is that of `--trust-domain`, which a root on file must agree with. A mesh configuration may change it.
    pub(super) by_flag: bool,
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
    pub(super) async fn open(
        &self,
        state: &State,
        trust_domain: &TrustDomainChoice,
        serving_names: &ServingNames,
        startup: &Startup,
    ) -> anyhow::Result<(Option<RootManager>, KeyMaterial)> {
        let now = OffsetDateTime::now_utc();
        let directory = match (self, state) {
            (Self::Followed(config), State::Cluster { secrets, .. }) => {
                let new_root = config.new_root(&trust_domain.name);
                let opened = secrets.open(new_root, serving_names.clone(), config.automatic_rotation);
                let (manager, keys) = until_open(opened, secrets, startup).await;
                return Ok((Some(manager), keys));
            }
            (_, state) => state.directory().context("a root of one's own needs a --state-dir")?,
        };
        let provided = match self {
            Self::Followed(config) => {
                let roots = RootsConfig {
                    state: directory.clone().into(),
                    plugged_in: config.ca_dir.clone().map(PluggedSource::Directory),
                    new_root: config.new_root(&trust_domain.name),
                    keeps_trust_domain: trust_domain.by_flag,
                    serving_names: serving_names.clone(),
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
        match directory.load(now) {
            Err(StateError::NoCa(_)) => Ok((None, directory.adopt(provided)?)),
            Ok(_) => bail!(
                "--state-dir: {} has a root of its own (ca-cert.pem): leave the given one away to sign with that, or \
                 choose another directory or --ephemeral to sign with the given one",
                directory.path().display()
            ),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until the Secrets of the CA can be used, and tells why not yet.
async fn until_open<T>(opened: impl Future<Output = T>, secrets: &CaSecrets, startup: &Startup) -> T {
    startup
        .until(opened, || secrets.problem().unwrap_or_else(|| "the CA's Secrets are read".to_owned()))
        .await
}
