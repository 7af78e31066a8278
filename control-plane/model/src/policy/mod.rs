//! Policies, one file a kind.

mod destination_rule;
mod peer_authentication;

pub use destination_rule::{
    ClientTls, ClientTlsMode, DestinationRule, LoadBalancer, PortTrafficPolicy, Subset, TrafficPolicy,
};
pub use peer_authentication::{MutualTlsMode, PeerAuthentication};
