//! Hosts that no service knows.

/// What to do with hosts that no service knows (`outboundTrafficPolicy.mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OutboundTrafficPolicy {
    /// Pass through, the default.
    #[default]
    AllowAny,
    /// Refuse.
    RegistryOnly,
}
