//! Where signer and roots may come from.

use std::{io, sync::Arc};

use eastwest_ca::{NewRoot, ServingNames, plugged::PluggedError};
use eastwest_identity::TrustDomain;
use thiserror::Error;

use super::plugged_source::PluggedSource;
use crate::trust::{
    state_error::{Place, StateError},
    storage::CaStorage,
};

/// Where signer and roots may come from.
#[derive(Debug, Clone)]
pub struct RootsConfig {
    /// Keeps our own root, and what must outlive the process. A directory is to be locked before.
    pub state: Arc<dyn CaStorage>,
    /// Where a CA may be plugged in, now or later.
    pub plugged_in: Option<PluggedSource>,
    /// What a root is, if one must be made.
    pub new_root: NewRoot,
    /// Whether a root of our own that is of another trust domain than `new_root` is refused. Where a mesh configuration
    /// decides the trust domain, it may change.
    pub keeps_trust_domain: bool,
    /// The names in our own serving certificate. A CA that does not allow them is not taken.
    pub serving_names: ServingNames,
    /// Whether our own root is rotated automatically.
    pub automatic_rotation: bool,
}

/// Why the CA cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The place of its state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The plugged-in CA cannot be used.
    #[error("{place}: {source}")]
    Plugged {
        /// Where it is.
        place: Place,
        /// The problem.
        source: Box<PluggedError>,
    },
    /// The CA is that of another trust domain.
    #[error(
        "{place}: the CA here is that of the trust domain {found}, as its root says, and not of {wanted}: start with \
         --trust-domain {found}, or name another --state-dir"
    )]
    TrustDomain {
        /// Where it is kept.
        place: Place,
        /// The one in its root.
        found: TrustDomain,
        /// The one that was asked for.
        wanted: TrustDomain,
    },
    /// Its files cannot be read.
    #[error("the plugged-in CA cannot be read: {0}")]
    Read(#[from] io::Error),
}
