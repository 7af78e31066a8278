//! What a control plane asks of the Kubernetes API besides its objects, and what it writes there.
//!
//! | module | what it does |
//! |---|---|
//! | [`election`] | the Lease that elects the one replica that writes |
//! | [`secrets`] | the key material of the CA in Secrets |
//! | `roots` | the trusted roots in every namespace, and as a ClusterTrustBundle |
//! | `status` | status conditions of policies |
//! | [`events`] | Events about refusals |
//! | `settings` | Events about the ConfigMap with the settings of the mesh |
//! | `spent_tokens` | tokens of CI jobs that were used, known to all replicas |
//! | `tokens` | tokens of service accounts: reviews, keys, issuer |
//! | `request`, `collection` | requests with a deadline, and refusals that name the missing RBAC rule |
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.

mod collection;
mod contention;
pub mod election;
pub mod events;
mod micro_time;
mod request;
mod roots;
pub mod secrets;
mod settings;
mod spent_tokens;
mod status;
mod supervision;
mod tokens;

pub use crate::{
    election::Election,
    roots::{Publication, Published, publish_roots},
    secrets::CaSecrets,
    settings::record_refused_settings,
    spent_tokens::{SpentTokens, remove_expired},
    status::{Findings, write_statuses},
    tokens::TokenIssuer,
};
