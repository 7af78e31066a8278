//! Limits of connections.

/// How many connections are handled at the same time.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// All of them.
    pub total: usize,
    /// Those of one peer; further ones are closed, so that there is room for others.
    pub per_peer: usize,
}
