//! The Kubernetes API as a source: lists and watches of all resources, and their freshness.
//!
//! ```text
//! client → watch/stream (one request) → decode, prune → watch/state (pure) → watch/task → source → updates → batches
//!                                                              └──────────► status → Report
//! ```
//!
//! Each resource has one task, which runs a state machine without clock and network (`watch/state.rs`). Known objects stay
//! until a new list is complete, also while the API does not answer. Custom resources are available while their
//! CustomResourceDefinitions are established. The rules and their tests are in `docs/KUBERNETES.md`.

mod batches;
mod changes;
mod client;
mod credentials;
mod decode;
mod discovery;
mod facts;
mod feed;
mod kinds;
mod log;
mod prune;
mod source;
mod status;
mod watch;

pub use crate::{
    batches::{Batches, follow},
    changes::send_if_different,
    client::{Api, ApiError, ApiOptions, Origin, is_configured},
    decode::{Key, Object},
    facts::{AllFacts, Fact, Facts, KindFacts, Progress},
    feed::{Feed, LoadError, dump, load},
    kinds::{
        CONFIG_MAP, DEFINITIONS, NAMESPACE, OBSERVED_CONFIG_MAPS, RESOURCES, Resource, SECRET,
        SERVICE_ACCOUNT,
    },
    log::Repeated,
    prune::Keep,
    source::{NamedObject, NamedSource, Source},
    status::{KindStatus, LastError, Report, State, Statuses},
    watch::{
        state::{Delta, Timing},
        task::{Update, reason},
    },
};
