//! Routes: one configuration for each port that HTTP services share, named by the port.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use eastwest_engine::settings::{Discovery, Outbound, OutboundCluster, OutboundService};
use eastwest_model::{Kind, mesh::OutboundTrafficPolicy, service::Protocol};
use eastwest_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use eastwest_xds::{EncodedResource, TypeUrl};

use super::{names::PASSTHROUGH_CLUSTER, route::Route};
use crate::{
    joint::{HostIndex, JointResources, JointType},
    resource::{Cache, Generator, encode},
    type_builder::TypeBuilder,
};

/// Route configurations.
#[derive(Debug)]
pub(crate) struct Routes;

impl TypeBuilder for Routes {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::ROUTE
    }

    fn joint(&self) -> Option<Box<dyn JointResources>> {
        Some(Box::<HostIndex<Self>>::default())
    }
}

/// What a host contributes to the routes of a port.
#[derive(PartialEq, Eq)]
pub(crate) struct HostRoutes<'a> {
    host: &'a str,
    /// All domains by which requests find the host; some may belong to another one already.
    domains: Vec<String>,
    route: Route,
}

impl JointType for Routes {
    type Key = u16;
    type Part<'a> = HostRoutes<'a>;

    fn name(port: &u16) -> String {
        port.to_string()
    }

    fn parts(service: &OutboundService) -> Vec<(u16, HostRoutes<'_>)> {
        let routed = whole(service).filter(|cluster| is_routed(service, cluster));
        let part = |cluster: &OutboundCluster| {
            let port = cluster.port.number;
            let route = Route::to_cluster(cluster.name());
            (port, HostRoutes { host: service.host.as_str(), domains: domains(service, port), route })
        };
        routed.map(part).collect()
    }

    fn resource(
        cache: &mut Cache,
        port: &u16,
        hosts: &[&HostRoutes<'_>],
        outbound: &Outbound,
    ) -> Option<Arc<EncodedResource>> {
        Some(cache.get(&RouteInputs::new(*port, hosts, outbound.unknown_hosts)))
    }
}

/// Inputs of a route configuration.
#[derive(Hash)]
struct RouteInputs<'a> {
    port: u16,
    hosts: Vec<RouteHost<'a>>,
    unknown_hosts: OutboundTrafficPolicy,
}

/// One host of a port.
#[derive(Hash)]
struct RouteHost<'a> {
    host: &'a str,
    domains: Vec<&'a str>,
    route: &'a Route,
}

/// The clusters without subset: only routes that name a subset lead to the others.
pub(crate) fn whole(service: &OutboundService) -> impl Iterator<Item = &OutboundCluster> {
    service.clusters.iter().map(AsRef::as_ref).filter(|cluster| cluster.subset.is_none())
}

/// Whether requests find the cluster by their Host header. Where nothing is declared, but the service has an address,
/// that address is enough.
pub(crate) fn is_routed(service: &OutboundService, cluster: &OutboundCluster) -> bool {
    match cluster.port.protocol {
        Protocol::Http | Protocol::Http2 => true,
        Protocol::Tcp => false,
        Protocol::Undeclared => is_addressless(service),
    }
}

/// Whether only a name tells connections to the service from others. Headless Services are called by the addresses of
/// their pods.
pub(crate) fn is_addressless(service: &OutboundService) -> bool {
    service.addresses.is_empty() && service.owner.kind != Kind::Service
}

/// Host, short names and virtual addresses, each alone and with the port. The pods of a headless service have names of
/// their own below each of its names.
fn domains(service: &OutboundService, port: u16) -> Vec<String> {
    let headless = service.owner.kind == Kind::Service && service.discovery == Discovery::OriginalDst;
    let names = [service.host.as_str()].into_iter().chain(service.aliases.iter().map(AsRef::as_ref));
    let pods = names.clone().filter(|_| headless).map(|name| format!("*.{name}"));
    let addresses = service.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let all = names.map(str::to_owned).chain(addresses).chain(pods);
    all.flat_map(|name| [format!("{name}:{port}"), name]).collect()
}

impl<'a> RouteInputs<'a> {
    /// The routes of a port. A domain belongs to the first host that has it: Envoy takes each only once.
    fn new(port: u16, hosts: &[&'a HostRoutes<'_>], unknown_hosts: OutboundTrafficPolicy) -> Self {
        let mut taken = BTreeSet::from(["*"]);
        let hosts = hosts.iter().filter_map(|HostRoutes { host, domains, route }| {
            let domains: Vec<_> =
                domains.iter().map(String::as_str).filter(|domain| taken.insert(domain)).collect();
            (!domains.is_empty()).then_some(RouteHost { host, domains, route })
        });
        Self { port, hosts: hosts.collect(), unknown_hosts }
    }
}

impl Generator for RouteInputs<'_> {
    const KIND: &'static str = "route";

    fn generate(&self) -> EncodedResource {
        let mut virtual_hosts: Vec<_> = self.hosts.iter().map(|host| self.virtual_host(host)).collect();
        virtual_hosts.push(unknown(self.unknown_hosts));
        let name = Routes::name(&self.port);
        let routes = RouteConfiguration {
            name: name.clone(),
            virtual_hosts,
            validate_clusters: Some(false),
            ..Default::default()
        };
        encode(TypeUrl::ROUTE, &name, &routes)
    }
}

impl RouteInputs<'_> {
    fn virtual_host(&self, host: &RouteHost<'_>) -> VirtualHost {
        VirtualHost {
            name: format!("{}:{}", host.host, self.port),
            domains: host.domains.iter().map(|domain| (*domain).to_owned()).collect(),
            routes: vec![host.route.encode()],
            ..Default::default()
        }
    }
}

fn unknown(policy: OutboundTrafficPolicy) -> VirtualHost {
    let (name, route) = match policy {
        OutboundTrafficPolicy::AllowAny => {
            ("allow_any", Route::to_cluster(PASSTHROUGH_CLUSTER).without_retries())
        }
        OutboundTrafficPolicy::RegistryOnly => ("block_all", Route::respond(502)),
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route.encode()],
        ..Default::default()
    }
}
