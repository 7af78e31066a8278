//! Calls as people name them, HOST:PORT, resolved to what a client's proxy does with them.

mod error;
mod names;
mod port;
mod target;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use eastwest_model::Host;

use crate::{
    ClientScope, Snapshot,
    listeners::{Call, FirstBytes, Listeners, Reached, Resolved},
    settings::{Outbound, OutboundCluster},
};

pub use error::ExplainError;
pub(crate) use names::candidates;
pub use port::Port;
pub(crate) use target::{Stranger, Target, address, authority};

/// What becomes of calls to the host of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim<'a> {
    /// They lead to the cluster, or nobody can call the host yet.
    Own,
    /// They lead to another one.
    Other(&'a OutboundCluster),
    /// They are passed through as they are, or refused.
    Unknown,
}

/// The clients of one scope: what their proxies have been given.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) scope: &'a ClientScope,
    pub(crate) outbound: &'a Outbound,
    listeners: Listeners<'a>,
}

/// One address of a target, and what becomes of connections to it.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// The address that is dialled; `None` = one that nothing in the mesh has.
    pub(crate) address: Option<IpAddr>,
    pub(crate) resolved: Resolved<'a>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, scope: &'a ClientScope, outbound: &'a Outbound) -> Self {
        Self { snapshot, scope, outbound, listeners: Listeners::of(outbound) }
    }

    /// Where calls go that a name or an address and a port ask for; one way for each address that is dialled. There is
    /// none if the name has no address.
    pub(crate) fn ways(&self, target: &Target) -> Vec<Way<'a>> {
        let way = |address| {
            let first_bytes = target.first_bytes.clone();
            let call = Call { address, port: target.port, first_bytes };
            Way { address, resolved: self.listeners.resolve(&call) }
        };
        self.dialled(target).into_iter().map(way).collect()
    }

    /// What a client's proxy does with a call.
    pub(crate) fn resolve(&self, call: &Call) -> Resolved<'a> {
        self.listeners.resolve(call)
    }

    /// The addresses that the clients dial for a name, whatever its host answers on that port; `None` = an address that
    /// nothing in the mesh has.
    pub(crate) fn addresses_of(&self, asked: &str, port: u16) -> Result<Vec<Option<IpAddr>>, ExplainError> {
        match self.target(asked, port) {
            Ok(target) => Ok(self.dialled(&target)),
            Err(ExplainError::UnknownPort { host, .. }) => {
                Ok(names::addresses(self.snapshot, &host, self.view(&host).as_ref(), self.outbound.families))
            }
            Err(ExplainError::UnknownHost { .. }) => Ok(vec![None]),
            Err(error) => Err(error),
        }
    }

    /// The addresses of a target that the clients can dial: those of families in which they have an address themselves
    /// (POLICY.md L9).
    pub(crate) fn dialled(&self, target: &Target) -> Vec<Option<IpAddr>> {
        let families = self.outbound.families;
        let is_within = |one: &Option<IpAddr>| one.is_none_or(|address| families.contain(address));
        target.addresses.iter().copied().filter(is_within).collect()
    }

    /// Where calls to the host of a cluster lead, which need not be the cluster: its port may belong to others.
    pub(crate) fn claim(&self, cluster: &OutboundCluster) -> Claim<'a> {
        let target = self
            .own_target(cluster)
            .map_or_else(|| self.target(cluster.host.as_str(), cluster.port.number).ok(), Some);
        let ways = target.map(|target| self.ways(&target)).unwrap_or_default();
        let own =
            |way: &Way<'_>| matches!(way.resolved.to, Reached::Cluster(one) if std::ptr::eq(one, cluster));
        match ways.first().map(|way| way.resolved.to) {
            None => Claim::Own,
            Some(_) if ways.iter().any(own) => Claim::Own,
            Some(Reached::Cluster(other)) => Claim::Other(other),
            Some(_) => Claim::Unknown,
        }
    }

    /// Whether a host without addresses takes all bytes to a port, whatever address they are meant for.
    pub(crate) fn takes_whole_port(&self, cluster: &OutboundCluster) -> bool {
        let call = Call { address: None, port: cluster.port.number, first_bytes: FirstBytes::Other };
        matches!(self.listeners.resolve(&call).to, Reached::Cluster(one) if std::ptr::eq(one, cluster))
    }

    /// The cluster of a port of a host, without a subset.
    pub(crate) fn cluster(&self, host: &Host, port: u16) -> Option<&'a OutboundCluster> {
        self.outbound.services.get(host)?.on_port(port)
    }
}
