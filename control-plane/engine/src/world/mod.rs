//! The world as the engine sees it: objects by namespace, one writer ([`Index`]), many readers ([`Snapshot`]).
//!
//! Maps are shared between the index and its snapshots and copied when written to ([`std::sync::Arc::make_mut`]), so
//! that freezing costs the number of namespaces, and a change costs, once after each freeze, a shallow copy of the
//! maps of its own kind in its own namespace. Only a Service or ServiceEntry that comes, goes or changes its hosts
//! copies something that is as large as the mesh: the map from hosts to owners.

mod affected;
mod dirty;
mod index;
mod namespace;
mod rules;
mod scope;
mod selecting;
mod slices;
mod snapshot;
mod workloads;

pub use dirty::{DirtySet, Hosts};
pub use index::Index;
pub use scope::ClientScope;
pub use snapshot::Snapshot;

pub(crate) use namespace::Namespace;
pub(crate) use scope::{Imported, sidecar_of};
