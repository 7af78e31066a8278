//! xDS on the wire: aggregated and secret discovery streams, state-of-the-world and delta.
//!
//! The host implements [`Gatekeeper`]: who may see which [`View`](eastwest_xds::View). [`XdsServer`] makes tonic
//! services of it. Each stream is a [`Stream`](eastwest_xds::Stream) that decides, and a session that moves bytes;
//! [`Connections`] tells who is connected and in which state.

mod body;
mod connections;
mod gatekeeper;
mod message;
mod node;
mod service;
mod session;
mod status;

pub use connections::{ConnectionStatus, Connections, TypeCounters, TypeStatus};
pub use gatekeeper::{Admission, Gatekeeper, Over, Peer};
pub use node::{Node, NodeError, NodeKind, Quoted};
pub use service::{AggregatedDiscovery, SecretDiscovery, XdsServer};
