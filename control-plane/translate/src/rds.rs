//! Routes: one configuration for each port that HTTP services share, named by the port.

use std::collections::BTreeSet;

use eastwest_engine::settings::OutboundService;
use eastwest_model::mesh::OutboundTrafficPolicy;
use eastwest_proto::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use crate::{
    names::PASSTHROUGH_CLUSTER,
    resource::{Generator, encode},
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

impl RouteInputs {
    /// The routes of a port. A domain belongs to the first host that has it: Envoy takes each only once.
    pub(crate) fn new<'a>(
        port: u16,
        services: impl Iterator<Item = (&'a OutboundService, String)>,
        unknown_hosts: OutboundTrafficPolicy,
    ) -> Self {
        let mut taken = BTreeSet::from(["*".to_owned()]);
        let hosts = services.filter_map(|(service, cluster)| {
            let domains: Vec<_> =
                domains(service, port).filter(|domain| taken.insert(domain.clone())).collect();
            let host = service.host.to_string();
            (!domains.is_empty()).then_some(RouteHost { host, domains, cluster })
        });
        Self { port, hosts: hosts.collect(), unknown_hosts }
    }
}

/// Host, short names and virtual addresses, each alone and with the port.
fn domains(service: &OutboundService, port: u16) -> impl Iterator<Item = String> {
    let addresses = service.addresses.iter().map(|address| match address {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let names = service.aliases.iter().map(ToString::to_string);
    let all: Vec<_> = std::iter::once(service.host.to_string()).chain(names).chain(addresses).collect();
    all.into_iter().flat_map(move |name| [format!("{name}:{port}"), name])
}

impl Generator for RouteInputs {
    const KIND: &'static str = "route";

    fn generate(&self) -> EncodedResource {
        let mut virtual_hosts: Vec<_> = self.hosts.iter().map(|host| self.virtual_host(host)).collect();
        virtual_hosts.push(unknown(self.unknown_hosts));
        let name = self.port.to_string();
        let routes = RouteConfiguration {
            name: name.clone(),
            virtual_hosts,
            validate_clusters: Some(false),
            ignore_port_in_host_matching: false,
            ..Default::default()
        };
        encode(TypeUrl::ROUTE, &name, &routes)
    }
}

impl RouteInputs {
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
    let policy = || RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: Some(2),
        host_selection_retry_max_attempts: 5,
        ..Default::default()
    };
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
