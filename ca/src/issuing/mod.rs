//! What a caller gets: grant, certificate profile, signature, and the check of the result.

pub mod chain;
mod check;
pub mod grant;
pub mod issuer;
pub mod needs;
pub mod new_root;
pub mod plugged;
pub(crate) mod profile;
mod signer;
