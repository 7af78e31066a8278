//! The xDS protocol without I/O: subscriptions and the next response of a stream.
//!
//! Resources are encoded once ([`EncodedResource`]), collected in immutable sets by type ([`ResourceSet`]), and
//! these in a [`View`]: the resources that one proxy may get. A [`Stream`] applies requests and returns the responses
//! that bring the client up to date with the view, in both variants. The crate has no clock, no tokio and no messages:
//! `xds/server` sends and receives.

mod delivery;
mod error;
mod held;
mod name_map;
mod names;
mod quarantine;
mod request;
mod resource;
mod response;
mod set;
mod stream;
mod subscription;
mod type_state;
mod type_url;
mod view;

pub use delivery::SyncState;
pub use error::StreamError;
pub use held::AcceptedResource;
pub use request::{Interest, Reaction, Request};
pub use resource::{EncodedResource, Version};
pub use response::{Payload, Response, Variant};
pub use set::{AbsentResource, ResourceSet};
pub use stream::{MAX_HELD, MAX_TYPES, Stream, SyncStatus};
pub use type_state::{MAX_NAME, MAX_NAMES};
pub use type_url::{EmptyTypeUrl, KnownType, TypeUrl};
pub use view::View;
