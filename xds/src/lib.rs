//! The xDS protocol without I/O: subscriptions and what a stream must send next.
//!
//! Resources are encoded once ([`EncodedResource`]), collected in immutable sets by type ([`ResourceSet`]), and
//! these in a [`View`]: what one proxy may see. A [`Stream`] takes requests in and says what to send so that the
//! client comes to hold its part of the view, in state-of-the-world and delta form alike. No clock, no tokio, no
//! messages: `xds/server` brings the bytes.

mod delivery;
mod error;
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
pub use request::{Interest, Reaction, Request};
pub use resource::{EncodedResource, Version};
pub use response::{Payload, Response, Variant};
pub use set::{AbsentResource, ResourceSet};
pub use stream::{MAX_TYPES, Stream, SyncStatus};
pub use type_state::MAX_NAMES;
pub use type_url::{EmptyTypeUrl, KnownType, TypeUrl};
pub use view::View;
