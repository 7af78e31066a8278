//! DestinationRule: how clients call a host (POLICY.md D1 to D11 and T1 to T4).

use eastwest_identity::Name;

use super::traffic_policy::{ClientTls, TrafficPolicy};
use crate::{
    meta::{Labels, Meta, Selector},
    names::Host,
    service::ExportTo,
};

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
    /// Every traffic policy: the general one and those of subsets.
    pub fn traffic_policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        let subsets = self.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        self.traffic_policy.iter().chain(subsets)
    }

    /// Every `tls` block: general, of ports, of subsets and of their ports.
    pub fn tls_blocks(&self) -> impl Iterator<Item = &ClientTls> {
        self.traffic_policies().flat_map(|policy| {
            let ports = policy.ports.iter().filter_map(|port| port.blocks.tls.as_ref());
            policy.blocks.tls.iter().chain(ports)
        })
    }
}
