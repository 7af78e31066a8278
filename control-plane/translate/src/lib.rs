//! Settings to Envoy resources and to our own types.
//!
//! All resources that proxies get are made here. Stock Envoy gets nothing that it does not know.
//!
//! The role of a proxy ([`ProxyRole`]) names its types of resources, and a `TypeBuilder` for each. A builder makes
//! resources with generators: a generator is a value with the inputs of one resource. [`Translator`] keeps what was
//! generated, so that equal inputs give the same bytes, encoded once and shared by every proxy.
//!
//! ```text
//! Outbound ─→ OutboundResources (one a client scope and role) ─┐
//! Inbound  ─→ resources of one proxy ──────────────────────────┴→ View (one a proxy; equal ones share their sets)
//! ```
//!
//! [`render`] shows a view as JSON, and the objects that a resource comes from; [`compare`] says what a change of
//! the world changes for each proxy.

pub mod compare;
mod facts;
mod fleet;
mod joint;
mod origins;
mod outbound;
mod proxy_resources;
pub mod render;
mod resource;
mod resource_type;
mod roles;
mod sidecar;
mod sweep;
mod translator;
mod type_builder;
mod workload;

pub use crate::{
    facts::{Audience, ProxyFacts},
    fleet::{ConnectError, Fleet, ProxyKey},
    origins::Source,
    outbound::OutboundResources,
    proxy_resources::ProxyResources,
    resource_type::ResourceType,
    roles::ProxyRole,
    translator::Translator,
};
