//! DestinationRule: how clients call a host (POLICY.md D1 to D11 and T1 to T4).

use std::fmt;

use eastwest_identity::Name;
use serde::Serialize;

use crate::{
    meta::{Labels, Meta, Selector},
    names::Host,
    service::ExportTo,
};

/// `tls.mode` of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Plaintext; also a block without `mode` (T3).
    Disable,
    /// TLS, the server's certificate is checked.
    Simple,
    /// TLS with a client certificate of the rule.
    Mutual,
    /// TLS with the mesh's certificates.
    IstioMutual,
}

impl fmt::Display for ClientTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        })
    }
}

/// A `tls` block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientTls {
    /// The mode.
    pub mode: ClientTlsMode,
    /// Server name to send.
    pub sni: Option<Name>,
    /// Names to accept.
    pub subject_alt_names: Vec<Name>,
    /// Path of the client certificate chain.
    pub client_certificate: Option<Name>,
    /// Path of the client key.
    pub private_key: Option<Name>,
    /// Path of the trust bundle.
    pub ca_certificates: Option<Name>,
    /// Name of a credential instead of files (O7).
    pub credential_name: Option<Name>,
    /// Accept any server certificate (O6).
    pub insecure_skip_verify: bool,
}

/// What matters here of `loadBalancer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum LoadBalancer {
    /// `simple: PASSTHROUGH`: the caller's address is dialled (A5).
    Passthrough,
    /// Anything else.
    Other,
}

/// A traffic policy: general, of a port, or of a subset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TrafficPolicy {
    /// TLS.
    pub tls: Option<ClientTls>,
    /// Load balancer.
    pub load_balancer: Option<LoadBalancer>,
    /// `portLevelSettings` in their order; the first entry of a port wins (T1).
    pub ports: Vec<PortTrafficPolicy>,
}

/// An entry of `portLevelSettings`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PortTrafficPolicy {
    /// Service port; the API sets no bound (V3).
    pub port: u32,
    /// TLS.
    pub tls: Option<ClientTls>,
    /// Load balancer.
    pub load_balancer: Option<LoadBalancer>,
}

/// A subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Its name.
    pub name: Name,
    /// Labels of its endpoints.
    pub labels: Labels,
    /// Its own policy.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// A DestinationRule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// Metadata.
    pub meta: Meta,
    /// The host, expanded (D1).
    pub host: Host,
    /// The host as written.
    pub written_host: Name,
    /// Visibility as written (D5, D9).
    pub export_to: ExportTo,
    /// `workloadSelector`: which clients; `Some(empty)` selects every one of the namespace (D6).
    pub workload_selector: Option<Selector>,
    /// The general policy.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Subsets in their order.
    pub subsets: Vec<Subset>,
}

impl DestinationRule {
    /// Every `tls` block: general, of ports, of subsets and of their ports.
    pub fn tls_blocks(&self) -> impl Iterator<Item = &ClientTls> {
        let subsets = self.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        let policies = self.traffic_policy.iter().chain(subsets);
        policies.flat_map(|policy| {
            policy.tls.iter().chain(policy.ports.iter().filter_map(|port| port.tls.as_ref()))
        })
    }
}
