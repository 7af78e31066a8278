//! Which `tls` block of a rule counts for a port and a subset (POLICY.md T1 to T3).

use std::sync::Arc;

use eastwest_model::policy::{
    ClientTls, ClientTlsMode, DestinationRule, LoadBalancer, Subset, TrafficPolicy,
};

use super::merge::Merged;

/// A `tls` block with the rule that wrote it.
pub(crate) type Written<'a> = (&'a ClientTls, &'a Arc<DestinationRule>);

/// What remains of a traffic policy for one port.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Block<'a> {
    /// T4: any block beats auto mutual TLS; none leaves it to auto.
    pub tls: Option<Written<'a>>,
    pub load_balancer: Option<LoadBalancer>,
}

impl Block<'_> {
    /// `simple: PASSTHROUGH`.
    pub(super) fn is_passthrough(&self) -> bool {
        self.load_balancer == Some(LoadBalancer::Passthrough)
    }
}

/// T1: the first entry of `portLevelSettings` for the Service port replaces the whole general policy; the flag says
/// that there is one.
fn for_port<'a>(policy: &'a TrafficPolicy, source: &'a Arc<DestinationRule>, port: u16) -> (Block<'a>, bool) {
    let entry = policy.ports.iter().find(|entry| entry.port == u32::from(port));
    let (tls, load_balancer) =
        entry.map_or((&policy.tls, policy.load_balancer), |entry| (&entry.tls, entry.load_balancer));
    (Block { tls: tls.as_ref().map(|tls| (tls, source)), load_balancer }, entry.is_some())
}

/// The block for a port of the whole host.
pub(crate) fn general<'a>(rule: Option<&Merged<'a>>, port: u16) -> Block<'a> {
    rule.and_then(|rule| rule.traffic_policy)
        .map(|(policy, source)| for_port(policy, source, port).0)
        .unwrap_or_default()
}

/// T2: a subset overrides field by field what remains of the general policy; a port entry of its own wipes all that
/// it would have inherited.
pub(crate) fn of_subset<'a>(
    base: Block<'a>,
    subset: &'a Subset,
    source: &'a Arc<DestinationRule>,
    port: u16,
) -> Block<'a> {
    let Some(policy) = &subset.traffic_policy else { return base };
    let (own, has_entry) = for_port(policy, source, port);
    match has_entry {
        true => own,
        false => Block { tls: own.tls.or(base.tls), load_balancer: own.load_balancer.or(base.load_balancer) },
    }
}

/// A6: the mode by which endpoints are marked where the cluster is on auto: that of the first port entry with a
/// block, else the general block, of the subset alone if one is asked for.
pub(crate) fn marking_mode(policy: Option<&TrafficPolicy>, port: u16) -> Option<ClientTlsMode> {
    let policy = policy?;
    let mut entries = policy.ports.iter().filter(|entry| entry.port == u32::from(port));
    let entry = entries.find_map(|entry| entry.tls.as_ref());
    entry.or(policy.tls.as_ref()).map(|tls| tls.mode)
}
