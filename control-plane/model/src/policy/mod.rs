//! Policies, one file a kind; the traffic policy of a DestinationRule has a file of its own.

mod authorization_policy;
mod destination_rule;
mod peer_authentication;
mod request_authentication;
mod retries;
mod traffic_policy;

pub use authorization_policy::{
    Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, DRY_RUN, Requirement,
};
pub use destination_rule::{DestinationRule, Subset};
pub use peer_authentication::{MutualTlsMode, PeerAuthentication};
pub use request_authentication::{JwtRule, KeySource, RequestAuthentication, TokenHeader};
pub use retries::RetryPolicy;
pub use traffic_policy::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, H2UpgradePolicy, HashAlgorithm, HashKey,
    Http2Keepalive, HttpPool, LoadBalancer, LocalityLoadBalancer, OutlierDetection, PolicyBlocks,
    PortTrafficPolicy, ProxyProtocol, RetryBudget, SimpleLoadBalancer, TcpKeepalive, TcpPool, TrafficPolicy,
    Tunnel, Warmup,
};
