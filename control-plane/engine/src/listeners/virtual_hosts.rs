//! The virtual hosts of a port: which host a request means, by its Host header.

use std::collections::BTreeSet;

use eastwest_model::{Kind, mesh::OutboundTrafficPolicy};

use super::{ClusterKey, parts::is_routed};
use crate::{
    address::url_host,
    settings::{Discovery, OutboundCluster, OutboundService},
    traffic::Sending,
};

/// What a host contributes to the routes of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoutes<'a> {
    /// The cluster that its requests go to.
    pub to: ClusterKey<'a>,
    /// How.
    pub sending: Sending<'a>,
    /// All domains by which requests find the host; some may belong to another one already.
    pub domains: Vec<String>,
}

/// What a host contributes to routes, by port.
pub fn host_routes(service: &OutboundService) -> impl Iterator<Item = (u16, HostRoutes<'_>)> {
    let part = |cluster| {
        let to = ClusterKey::of(cluster);
        (to.port, HostRoutes { to, sending: cluster.sending(), domains: domains(service, to.port) })
    };
    service.whole().filter(|cluster: &&OutboundCluster| is_routed(service, cluster)).map(part)
}

/// The virtual hosts of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualHosts<'a> {
    /// The port.
    pub port: u16,
    /// The hosts.
    pub hosts: Vec<VirtualHost<'a>>,
    /// What becomes of requests for any other host.
    pub unknown: OutboundTrafficPolicy,
}

/// One host of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualHost<'a> {
    /// The cluster that its requests go to.
    pub to: ClusterKey<'a>,
    /// How.
    pub sending: Sending<'a>,
    /// Its domains: a name or address, or a wildcard of it, each alone and with the port.
    pub domains: Vec<&'a str>,
}

impl<'a> VirtualHosts<'a> {
    /// The virtual hosts of a port that hosts contribute to, in their order.
    pub fn new(port: u16, hosts: &[&'a HostRoutes<'_>], unknown: OutboundTrafficPolicy) -> Self {
        let hosts = owned_domains(hosts.iter().copied());
        Self {
            port,
            hosts: hosts
                .map(|(host, domains)| VirtualHost { to: host.to, sending: host.sending, domains })
                .collect(),
            unknown,
        }
    }
}

/// Each host with the domains that it gets. A domain belongs to the first host that has it: Envoy takes each
/// only once.
pub(super) fn owned_domains<'p, 'a: 'p>(
    hosts: impl Iterator<Item = &'p HostRoutes<'a>>,
) -> impl Iterator<Item = (&'p HostRoutes<'a>, Vec<&'p str>)> {
    let mut taken = BTreeSet::from(["*"]);
    hosts.filter_map(move |host| {
        let domains: Vec<_> =
            host.domains.iter().map(String::as_str).filter(|domain| taken.insert(domain)).collect();
        (!domains.is_empty()).then_some((host, domains))
    })
}

/// Host, short names and virtual addresses, each alone and with the port. The pods of a headless service have names of
/// their own below each of its names.
fn domains(service: &OutboundService, port: u16) -> Vec<String> {
    let headless = service.owner.kind == Kind::Service && service.discovery == Discovery::OriginalDst;
    let names = [service.host.as_str()].into_iter().chain(service.aliases.iter().map(AsRef::as_ref));
    let pods = names.clone().filter(|_| headless).map(|name| format!("*.{name}"));
    let addresses = service.dialled_addresses().map(url_host);
    let all = names.map(str::to_owned).chain(addresses).chain(pods);
    all.flat_map(|name| [format!("{name}:{port}"), name]).collect()
}

impl VirtualHost<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        virtual_host_name(&self.to)
    }
}

/// The name of the virtual host that leads to a cluster: `HOST:PORT`.
pub(super) fn virtual_host_name(to: &ClusterKey<'_>) -> String {
    format!("{}:{}", to.host, to.port)
}

/// The status that requests for unknown hosts are answered with where none may be called.
pub const UNKNOWN_HOST_STATUS: u32 = 502;

/// The name of the virtual host for unknown hosts.
pub fn unknown_virtual_host(policy: OutboundTrafficPolicy) -> &'static str {
    match policy {
        OutboundTrafficPolicy::AllowAny => "allow_any",
        OutboundTrafficPolicy::RegistryOnly => "block_all",
    }
}
