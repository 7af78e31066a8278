//! Listeners.

mod filters;
mod inbound;
mod outbound;

pub(crate) use inbound::InboundInputs;
pub(crate) use outbound::{OutboundInputs, listeners};
