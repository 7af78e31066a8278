//! Trust bundles on their way out: the newest bundle of our own domain, numbered.

mod own;

pub use own::{DEFAULT_REFRESH_HINT, OwnBundle, of_state_dir};
