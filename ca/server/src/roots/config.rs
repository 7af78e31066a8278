//! Where signer and roots may come from.

use std::{io, sync::Arc};

use eastwest_ca::{NewRoot, plugged::PluggedError};
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
        source: PluggedError,
    },
    /// Its files cannot be read.
    #[error("the plugged-in CA cannot be read: {0}")]
    Read(#[from] io::Error),
}
