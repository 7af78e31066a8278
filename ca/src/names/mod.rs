//! The names of hosts that certificates carry: in our own serving certificate, and beside the identity of a workload.

mod allowed;
mod serving_name;

pub use allowed::{AllowedNames, AllowedNamesError};
pub use serving_name::{ServingName, ServingNameError};
