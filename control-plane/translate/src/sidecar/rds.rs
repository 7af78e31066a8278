//! Routes: one configuration for each port that HTTP services share, named by the port. Which host has which domains is
//! decided by [`eastwest_engine::listeners`].

use std::sync::Arc;

use eastwest_engine::{
    listeners::{HostRoutes, UNKNOWN_HOST_STATUS, VirtualHosts, host_routes, unknown_virtual_host},
    settings::{Outbound, OutboundService, WorkloadTls},
};
use eastwest_model::mesh::OutboundTrafficPolicy;
use eastwest_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use eastwest_xds::{EncodedResource, TypeUrl};

use super::{names::PASSTHROUGH_CLUSTER, route::Route};
use crate::{
    joint::{HostIndex, JointResources, JointType},
    origins::{self, Source},
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

    fn sources(&self, settings: &WorkloadTls, name: &str) -> Vec<Source> {
        let Ok(port) = name.parse() else { return Vec::new() };
        let services = settings.outbound.services.values();
        let routed = services.filter(|service| host_routes(service).any(|(of, _)| of == port));
        let clusters = routed.filter_map(|service| Some((service.as_ref(), service.on_port(port)?)));
        clusters.flat_map(origins::of_cluster).collect()
    }

    fn joint(&self) -> Option<Box<dyn JointResources>> {
        Some(Box::<HostIndex<Self>>::default())
    }
}

impl JointType for Routes {
    type Key = u16;
    type Part<'a> = HostRoutes<'a>;

    fn name(port: &u16) -> String {
        port.to_string()
    }

    fn parts(service: &OutboundService) -> Vec<(u16, HostRoutes<'_>)> {
        host_routes(service).collect()
    }

    fn resource(
        cache: &mut Cache,
        port: &u16,
        hosts: &[&HostRoutes<'_>],
        outbound: &Outbound,
    ) -> Option<Arc<EncodedResource>> {
        Some(cache.get(&RouteInputs(VirtualHosts::new(*port, hosts, outbound.unknown_hosts))))
    }
}

/// Inputs of a route configuration.
#[derive(Hash)]
struct RouteInputs<'a>(VirtualHosts<'a>);

impl Generator for RouteInputs<'_> {
    const KIND: &'static str = "route";

    fn generate(&self) -> EncodedResource {
        let VirtualHosts { port, hosts, unknown } = &self.0;
        let mut virtual_hosts: Vec<_> = hosts
            .iter()
            .map(|host| VirtualHost {
                name: host.name(),
                domains: host.domains.iter().map(|domain| (*domain).to_owned()).collect(),
                include_request_attempt_count: true,
                routes: vec![Route::to_cluster(host.to.name(), host.sending).encode()],
                ..Default::default()
            })
            .collect();
        virtual_hosts.push(unknown_hosts(*unknown));
        let name = Routes::name(port);
        let routes = RouteConfiguration {
            name: name.clone(),
            virtual_hosts,
            validate_clusters: Some(false),
            ..Default::default()
        };
        encode(TypeUrl::ROUTE, &name, &routes)
    }
}

fn unknown_hosts(policy: OutboundTrafficPolicy) -> VirtualHost {
    let route = match policy {
        OutboundTrafficPolicy::AllowAny => Route::pass_through(PASSTHROUGH_CLUSTER),
        OutboundTrafficPolicy::RegistryOnly => Route::respond(UNKNOWN_HOST_STATUS),
    };
    VirtualHost {
        name: unknown_virtual_host(policy).to_owned(),
        domains: vec!["*".to_owned()],
        include_request_attempt_count: true,
        routes: vec![route.encode()],
        ..Default::default()
    }
}
