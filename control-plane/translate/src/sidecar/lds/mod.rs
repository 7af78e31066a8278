//! Listeners.

mod filters;
mod inbound;
mod outbound;

pub(crate) use inbound::listeners as inbound_listeners;
pub(crate) use outbound::{OutboundInputs, listeners};
