//! Routes: one configuration for each port that HTTP services share, named by the port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use eastwest_engine::settings::{Discovery, Outbound, OutboundCluster, OutboundService};
use eastwest_model::{Kind, mesh::OutboundTrafficPolicy, service::Protocol};
use eastwest_proto::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use crate::{
    resource::{Generator, encode},
    sidecar::names::PASSTHROUGH_CLUSTER,
};

/// What is tried again, because the application cannot have seen it. A renewed certificate or a moved endpoint then
/// costs no request.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request,unavailable,cancelled";

/// Inputs of a route configuration.
#[derive(Hash)]
pub(crate) struct RouteInputs {
    port: u16,
    hosts: Vec<RouteHost>,
    unknown_hosts: OutboundTrafficPolicy,
}

/// One host of a port.
#[derive(Hash)]
struct RouteHost {
    host: String,
    domains: Vec<String>,
    cluster: String,
}

/// The routes of every port that has some.
pub(crate) fn routes(outbound: &Outbound) -> Vec<RouteInputs> {
    let mut ports: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for service in outbound.services.values() {
        for cluster in whole(service).filter(|cluster| is_routed(service, cluster)) {
            ports.entry(cluster.port.number).or_default().push((service.as_ref(), cluster.name()));
        }
    }
    let ports = ports.into_iter();
    ports.map(|(port, services)| RouteInputs::new(port, services, outbound.unknown_hosts)).collect()
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

impl RouteInputs {
    /// The routes of a port. A domain belongs to the first host that has it: Envoy takes each only once.
    fn new(
        port: u16,
        services: Vec<(&OutboundService, String)>,
        unknown_hosts: OutboundTrafficPolicy,
    ) -> Self {
        let mut taken = BTreeSet::from(["*".to_owned()]);
        let hosts = services.into_iter().filter_map(|(service, cluster)| {
            let domains: Vec<_> =
                domains(service, port).into_iter().filter(|domain| taken.insert(domain.clone())).collect();
            let host = service.host.to_string();
            (!domains.is_empty()).then_some(RouteHost { host, domains, cluster })
        });
        Self { port, hosts: hosts.collect(), unknown_hosts }
    }
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

impl Generator for RouteInputs {
    const KIND: &'static str = "route";

    fn generate(&self) -> EncodedResource {
        let mut virtual_hosts: Vec<_> = self.hosts.iter().map(|host| self.virtual_host(host)).collect();
        virtual_hosts.push(unknown(self.unknown_hosts));
        let name = self.name();
        let routes = RouteConfiguration {
            name: name.clone(),
            virtual_hosts,
            validate_clusters: Some(false),
            ..Default::default()
        };
        encode(TypeUrl::ROUTE, &name, &routes)
    }
}

impl RouteInputs {
    /// The name of the resource.
    pub(crate) fn name(&self) -> String {
        self.port.to_string()
    }

    fn virtual_host(&self, host: &RouteHost) -> VirtualHost {
        VirtualHost {
            name: format!("{}:{}", host.host, self.port),
            domains: host.domains.clone(),
            routes: vec![to_cluster(&host.cluster, true)],
            ..Default::default()
        }
    }
}

fn unknown(policy: OutboundTrafficPolicy) -> VirtualHost {
    let (name, route) = match policy {
        OutboundTrafficPolicy::AllowAny => ("allow_any", to_cluster(PASSTHROUGH_CLUSTER, false)),
        OutboundTrafficPolicy::RegistryOnly => {
            let refuse = DirectResponseAction { status: 502, ..Default::default() };
            let route = Route {
                r#match: Some(everything()),
                action: Some(Action::DirectResponse(refuse)),
                ..Default::default()
            };
            ("block_all", route)
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    }
}

/// Everything to one cluster, without a time limit.
pub(crate) fn to_cluster(cluster: &str, retry: bool) -> Route {
    let policy = || RetryPolicy { retry_on: RETRY_ON.to_owned(), num_retries: Some(2), ..Default::default() };
    let action = RouteAction {
        timeout: Some(Duration::default()),
        retry_policy: retry.then(policy),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    Route { r#match: Some(everything()), action: Some(Action::Route(action)), ..Default::default() }
}

fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}
