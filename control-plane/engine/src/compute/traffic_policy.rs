//! The traffic policy for one port and subset: the levels of a rule, merged block by block (POLICY.md T1 to T3).

use std::sync::Arc;

use eastwest_model::{
    Name,
    mesh::TrafficDefaults,
    policy::{
        ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, HashKey, LoadBalancer, OutlierDetection,
        PolicyBlocks, ProxyProtocol, RetryBudget, Subset, TrafficPolicy, Tunnel,
    },
};

use super::merge::Merged;
use crate::traffic::{Level, Relay, Sourced, TrafficSettings};

/// A block with the rule that wrote it, and where it stands there.
type Written<'a, T> = (&'a T, Place<'a>);

/// A level of a rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub rule: &'a Arc<DestinationRule>,
    level: Level,
}

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
                let of_port = Self::of_port(policy, Place { rule: source, level: Level::Port }, port);
                of_port.unwrap_or(Self::general(policy, Place { rule: source, level: Level::General }))
            })
            .unwrap_or_default()
    }

    /// T2: a subset overrides block by block what remains of the general policy; a port entry of its own wipes all that
    /// it would have inherited.
    pub(super) fn of_subset(self, subset: &'a Subset, source: &'a Arc<DestinationRule>, port: u16) -> Self {
        let Some(policy) = &subset.traffic_policy else { return self };
        let of_port = Self::of_port(policy, Place { rule: source, level: Level::SubsetPort }, port);
        let place = Place { rule: source, level: Level::Subset };
        of_port.unwrap_or_else(|| Self::general(policy, place).over(self))
    }

    /// T1: the first entry of `portLevelSettings` for the Service port, which replaces the whole policy that it is in;
    /// what has no place in an entry is lost.
    fn of_port(policy: &'a TrafficPolicy, place: Place<'a>, port: u16) -> Option<Self> {
        let entry = policy.ports.iter().find(|entry| entry.port == u32::from(port))?;
        Some(Self::blocks(&entry.blocks, place))
    }

    /// A policy without its `portLevelSettings`.
    fn general(policy: &'a TrafficPolicy, place: Place<'a>) -> Self {
        Self {
            tunnel: policy.tunnel.as_ref().map(|block| (block, place)),
            proxy_protocol: policy.proxy_protocol.as_ref().map(|block| (block, place)),
            retry_budget: policy.retry_budget.as_ref().map(|block| (block, place)),
            ..Self::blocks(&policy.blocks, place)
        }
    }

    fn blocks(blocks: &'a PolicyBlocks, place: Place<'a>) -> Self {
        Self {
            tls: blocks.tls.as_ref().map(|block| (block, place)),
            load_balancer: blocks.load_balancer.as_ref().map(|block| (block, place)),
            connection_pool: blocks.connection_pool.as_ref().map(|block| (block, place)),
            outlier_detection: blocks.outlier_detection.as_ref().map(|block| (block, place)),
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
    pub(super) fn settings(
        &self,
        rule: Option<&Merged<'_>>,
        (subset, port): (Option<&Name>, u16),
        mesh: &Arc<TrafficDefaults>,
    ) -> TrafficSettings {
        let hash = rule.and_then(|rule| hash(rule, subset, Some(port)));
        let hashes_source = hash.as_ref().is_some_and(|hash| hash.value == HashKey::SourceIp);
        TrafficSettings {
            rule: rule.map(|rule| rule.reference().clone()),
            mesh: Arc::clone(mesh),
            relay: Relay { hashes_source, ..rule.map(relay).unwrap_or_default() },
            hash,
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
    block.map(|(value, place)| place.with(value.clone()))
}

impl Place<'_> {
    fn with<T>(self, value: T) -> Sourced<T> {
        Sourced { value, rule: self.rule.meta.object.clone(), level: self.level }
    }
}

/// B7: what is hashed of a request. The first of these that has a hash: the subset's entry for a port, the subset, the entry
/// of the general policy, that policy; entries count where the port is named.
pub(super) fn hash(rule: &Merged<'_>, subset: Option<&Name>, port: Option<u16>) -> Option<Sourced<HashKey>> {
    let subset = subset.and_then(|name| rule.subset(name));
    let of_subset = subset.and_then(|(subset, source)| Some((subset.traffic_policy.as_ref()?, source)));
    let levels =
        [(of_subset, Level::SubsetPort, Level::Subset), (rule.traffic_policy, Level::Port, Level::General)];
    let found = levels.into_iter().find_map(|(policy, of_port, whole)| {
        let (policy, rule) = policy?;
        let entry = port.and_then(|port| policy.ports.iter().find(|entry| entry.port == u32::from(port)));
        let by = |blocks: &PolicyBlocks, level| {
            let hash = blocks.load_balancer.as_ref()?.consistent_hash.as_ref()?;
            Some(hash.key.clone().map(|key| Place { rule, level }.with(key)))
        };
        entry.and_then(|entry| by(&entry.blocks, of_port)).or_else(|| by(&policy.blocks, whole))
    });
    found.flatten()
}

/// B9: the limits of the general policy hold for the proxied connections too.
fn relay(rule: &Merged<'_>) -> Relay {
    let pool = rule.traffic_policy.and_then(|(policy, _)| policy.blocks.connection_pool.as_ref());
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    Relay {
        idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration),
        hashes_source: false,
    }
}

/// A6: the mode by which endpoints are marked where the cluster is on auto: that of the first port entry with a
/// block, else the general block, of the subset alone if one is asked for.
pub(crate) fn marking_mode(policy: Option<&TrafficPolicy>, port: u16) -> Option<ClientTlsMode> {
    let policy = policy?;
    let mut entries = policy.ports.iter().filter(|entry| entry.port == u32::from(port));
    let entry = entries.find_map(|entry| entry.blocks.tls.as_ref());
    entry.or(policy.blocks.tls.as_ref()).map(|tls| tls.mode)
}
