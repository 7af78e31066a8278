//! Names, workloads, services and policies, parsed so that only valid ones exist.

pub mod credential;
pub mod diagnostic;
mod edit_distance;
mod families;
pub mod kind;
pub mod mesh;
pub mod meta;
pub mod names;
pub mod object;
pub mod policy;
pub mod service;
mod unknown_hosts;
pub mod workload;

pub use credential::{Credential, CredentialRef};
pub use diagnostic::{Diagnostic, Effect, Severity};
pub use eastwest_identity::{IdentityError, Name, SpiffeId, TrustDomain, WorkloadKey, WorkloadKeyError};
pub use edit_distance::edit_distance;
pub use families::{Families, Family};
pub use kind::{Group, Kind};
pub use mesh::MeshConfig;
pub use meta::{Created, Labels, Meta, Origin, Selector};
pub use names::{Host, ObjectRef};
pub use object::{Change, Object};
pub use workload::Workload;
