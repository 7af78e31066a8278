//! Envoy: its bootstrap and its admin interface.

pub(crate) mod admin;
pub(crate) mod bootstrap;
#[cfg(test)]
mod tests;
