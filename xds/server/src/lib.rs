//! xDS on the wire: aggregated and secret discovery streams, state-of-the-world and delta.
//!
//! The host implements [`StreamAuthorizer`], which decides which client sees which [`View`](eastwest_xds::View).
//! [`XdsServer`] makes tonic services of it. Each stream is a [`Stream`](eastwest_xds::Stream) that decides what is sent,
//! and a session that moves the bytes. [`Connections`] lists the open streams and their state.

mod authorizer;
mod body;
mod budget;
mod client_status;
mod connections;
mod inspection;
mod message;
mod node;
mod quota;
mod requests;
mod service;
mod session;
mod status;

pub use authorizer::{AuthenticatedClient, AuthorizedStream, StreamAuthorizer, StreamEnd, StreamObserver};
pub use budget::{Budget, Exhausted, Limits, Share};
pub use client_status::{ClientStatus, ClientStatusServer};
pub use connections::{
    ClientConfig, ClientFacts, ClientType, ConnectionStatus, Connections, TypeCounters, TypeStatus,
};
pub use node::{Node, NodeError, NodeKind, Quoted};
pub use service::{AggregatedDiscovery, SecretDiscovery, XdsServer};
