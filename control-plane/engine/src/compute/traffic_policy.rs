//! The traffic policy for one port and subset: the levels of a rule, merged block by block (POLICY.md T1 to T3).

use std::sync::Arc;

use eastwest_model::policy::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PolicyBlocks,
    ProxyProtocol, RetryBudget, Subset, TrafficPolicy, Tunnel,
};

use super::merge::Merged;
use crate::settings::{Sourced, TrafficSettings};

/// A block with the rule that wrote it.
type Written<'a, T> = (&'a T, &'a Arc<DestinationRule>);

/// The traffic policy of one port, of the whole host or of a subset, with the origin of each block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effective<'a> {
    /// T4: any block beats auto mutual TLS; none leaves it to auto.
    pub tls: Option<Written<'a, ClientTls>>,
    load_balancer: Option<Written<'a, Arc<LoadBalancer>>>,
    connection_pool: Option<Written<'a, Arc<ConnectionPool>>>,
    outlier_detection: Option<Written<'a, Arc<OutlierDetection>>>,
    tunnel: Option<Written<'a, Arc<Tunnel>>>,
    proxy_protocol: Option<Written<'a, ProxyProtocol>>,
    retry_budget: Option<Written<'a, Arc<RetryBudget>>>,
}

impl<'a> Effective<'a> {
    /// The policy for a port of the whole host.
    pub(super) fn of_host(rule: Option<&Merged<'a>>, port: u16) -> Self {
        let policy = rule.and_then(|rule| rule.traffic_policy);
        policy
            .map(|(policy, source)| {
                Self::of_port(policy, source, port).unwrap_or(Self::general(policy, source))
            })
            .unwrap_or_default()
    }

    /// T2: a subset overrides block by block what remains of the general policy; a port entry of its own wipes all that
    /// it would have inherited.
    pub(super) fn of_subset(self, subset: &'a Subset, source: &'a Arc<DestinationRule>, port: u16) -> Self {
        let Some(policy) = &subset.traffic_policy else { return self };
        Self::of_port(policy, source, port).unwrap_or_else(|| Self::general(policy, source).over(self))
    }

    /// T1: the first entry of `portLevelSettings` for the Service port, which replaces the whole policy that it is in;
    /// what has no place in an entry is lost.
    fn of_port(policy: &'a TrafficPolicy, source: &'a Arc<DestinationRule>, port: u16) -> Option<Self> {
        let entry = policy.ports.iter().find(|entry| entry.port == u32::from(port))?;
        Some(Self::blocks(&entry.blocks, source))
    }

    /// A policy without its `portLevelSettings`.
    fn general(policy: &'a TrafficPolicy, source: &'a Arc<DestinationRule>) -> Self {
        Self {
            tunnel: policy.tunnel.as_ref().map(|block| (block, source)),
            proxy_protocol: policy.proxy_protocol.as_ref().map(|block| (block, source)),
            retry_budget: policy.retry_budget.as_ref().map(|block| (block, source)),
            ..Self::blocks(&policy.blocks, source)
        }
    }

    fn blocks(blocks: &'a PolicyBlocks, source: &'a Arc<DestinationRule>) -> Self {
        Self {
            tls: blocks.tls.as_ref().map(|block| (block, source)),
            load_balancer: blocks.load_balancer.as_ref().map(|block| (block, source)),
            connection_pool: blocks.connection_pool.as_ref().map(|block| (block, source)),
            outlier_detection: blocks.outlier_detection.as_ref().map(|block| (block, source)),
            ..Self::default()
        }
    }

    /// The blocks of this policy, and of a wider one those that this one has not.
    fn over(self, wider: Self) -> Self {
        Self {
            tls: self.tls.or(wider.tls),
            load_balancer: self.load_balancer.or(wider.load_balancer),
            connection_pool: self.connection_pool.or(wider.connection_pool),
            outlier_detection: self.outlier_detection.or(wider.outlier_detection),
            tunnel: self.tunnel.or(wider.tunnel),
            proxy_protocol: self.proxy_protocol.or(wider.proxy_protocol),
            retry_budget: self.retry_budget.or(wider.retry_budget),
        }
    }

    /// `simple: PASSTHROUGH`.
    pub(super) fn is_passthrough(&self) -> bool {
        self.load_balancer.is_some_and(|(block, _)| block.is_passthrough())
    }

    /// Everything but TLS, for the settings of a cluster.
    pub(super) fn settings(&self) -> TrafficSettings {
        TrafficSettings {
            load_balancer: sourced(self.load_balancer),
            connection_pool: sourced(self.connection_pool),
            outlier_detection: sourced(self.outlier_detection),
            tunnel: sourced(self.tunnel),
            proxy_protocol: sourced(self.proxy_protocol),
            retry_budget: sourced(self.retry_budget),
        }
    }
}

fn sourced<T: Clone>(block: Option<Written<'_, T>>) -> Option<Sourced<T>> {
    block.map(|(value, source)| Sourced { value: value.clone(), rule: source.meta.object.clone() })
}

/// A6: the mode by which endpoints are marked where the cluster is on auto: that of the first port entry with a
/// block, else the general block, of the subset alone if one is asked for.
pub(crate) fn marking_mode(policy: Option<&TrafficPolicy>, port: u16) -> Option<ClientTlsMode> {
    let policy = policy?;
    let mut entries = policy.ports.iter().filter(|entry| entry.port == u32::from(port));
    let entry = entries.find_map(|entry| entry.blocks.tls.as_ref());
    entry.or(policy.blocks.tls.as_ref()).map(|tls| tls.mode)
}
