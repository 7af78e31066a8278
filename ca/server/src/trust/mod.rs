//! Signer and roots: in the state directory, provided by others, and in force.

pub(crate) mod ca_state;
pub(crate) mod latest_expiry;
pub(crate) mod provided_root;
pub mod root_status;
pub(crate) mod serving_certificate;
pub mod state_dir;
pub mod test_root;
