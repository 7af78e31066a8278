//! Signer and roots: in a state directory or another storage, provided by others, and in force.

pub(crate) mod ca_state;
pub(crate) mod key_material;
pub(crate) mod latest_expiry;
pub(crate) mod provided_root;
pub mod root_files;
pub mod root_status;
pub(crate) mod serving_certificate;
pub mod state_dir;
pub(crate) mod state_error;
pub mod storage;
pub mod test_root;
