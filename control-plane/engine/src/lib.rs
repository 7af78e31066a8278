//! The pure TLS policy engine: a snapshot of the world in, settings with their trace out.

pub mod settings;
pub mod trace;

/// What distinguishes one client's view of the mesh from another's (filled in with the index).
#[derive(Debug)]
pub struct ClientScope;
