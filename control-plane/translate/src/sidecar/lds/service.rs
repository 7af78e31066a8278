//! The listeners behind `virtualOutbound`, one for each address and port that services have. Which filter chains they
//! have is decided by [`eastwest_engine::listeners`].

use eastwest_engine::{
    listeners::{Chain, ChainMatch, ClusterKey, Listener as Decided, Target},
    traffic::Sending,
};
use eastwest_model::{Families, Name};
use eastwest_proto::envoy::{
    config::{
        core::v3::{
            AggregatedConfigSource, ApiVersion, ConfigSource, TrafficDirection,
            config_source::ConfigSourceSpecifier,
        },
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::{
        Rds, http_connection_manager::RouteSpecifier,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use super::filters::{self, INSPECTION, Side};
use crate::{
    resource::{Generator, encode},
    sidecar::{
        address::{listening, range},
        route::Route,
    },
};

/// Inputs of a listener that does not bind: `virtualOutbound` hands it the connections to its address.
#[derive(Hash)]
pub(crate) struct ServiceListener<'a> {
    pub(super) decided: Decided<'a>,
    pub(super) access_log_file: Option<&'a Name>,
}

impl Generator for ServiceListener<'_> {
    const KIND: &'static str = "service listener";

    fn generate(&self) -> EncodedResource {
        let Decided { key, chains, default_chain, .. } = &self.decided;
        let name = key.name();
        let listener_filters = self.inspectors();
        let (address, additional_addresses) = listening(key);
        let listener = Listener {
            name: name.clone(),
            address,
            additional_addresses,
            bind_to_port: Some(false),
            filter_chains: chains.iter().map(|chain| self.chain(chain)).collect(),
            default_filter_chain: default_chain.as_ref().map(|chain| self.chain(chain)),
            listener_filters_timeout: (!listener_filters.is_empty()).then_some(INSPECTION),
            continue_on_listener_filters_timeout: !listener_filters.is_empty(),
            listener_filters,
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, &name, &listener)
    }
}

impl ServiceListener<'_> {
    /// What must be known before a chain is chosen.
    fn inspectors(&self) -> Vec<ListenerFilter> {
        let tls = self.decided.finds_tls.then(filters::tls_inspector);
        tls.into_iter().chain(self.decided.finds_http.then(filters::http_inspector)).collect()
    }

    fn chain(&self, chain: &Chain<'_>) -> FilterChain {
        let Chain { name, matches, target } = chain;
        let filters = match target {
            Target::Bytes { to, lookup, relay } => {
                let lookup =
                    lookup.map(|port| filters::server_name_lookup(port, self.decided.key.families()));
                let tcp = filters::relayed(&to.cluster_name(), *relay, self.access_log_file);
                lookup.into_iter().chain([tcp]).collect()
            }
            Target::Routes { dynamic } => {
                let key = self.decided.key;
                vec![self.http(routes_of_port(key.port), None, dynamic.then(|| key.families()))]
            }
            Target::Http { to, alpn, sending } => vec![self.http(one_cluster(to, *sending), *alpn, None)],
        };
        FilterChain {
            name: name.to_string(),
            filter_chain_match: matching(matches),
            filters,
            ..Default::default()
        }
    }

    fn http(&self, routes: RouteSpecifier, alpn: Option<&str>, dynamic: Option<Families>) -> Filter {
        let stat_prefix = format!("outbound_{}", self.decided.key.name());
        filters::http(Side::Outbound, &stat_prefix, routes, alpn, dynamic, self.access_log_file)
    }
}

/// `None` = takes everything.
fn matching(matches: &ChainMatch<'_>) -> Option<FilterChainMatch> {
    (*matches != ChainMatch::default()).then(|| FilterChainMatch {
        prefix_ranges: matches.blocks.iter().map(range).collect(),
        server_names: matches.server_name.map(str::to_owned).into_iter().collect(),
        transport_protocol: matches.transport.map(|one| one.as_str().to_owned()).unwrap_or_default(),
        application_protocols: matches.protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        ..Default::default()
    })
}

fn routes_of_port(port: u16) -> RouteSpecifier {
    let source = ConfigSource {
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
    };
    RouteSpecifier::Rds(Rds { config_source: Some(source), route_config_name: port.to_string() })
}

fn one_cluster(cluster: &ClusterKey<'_>, sending: Sending<'_>) -> RouteSpecifier {
    let name = cluster.name();
    let all = VirtualHost {
        name: "outbound".to_owned(),
        domains: vec!["*".to_owned()],
        include_request_attempt_count: true,
        routes: vec![Route::to_cluster(&name, sending).encode()],
        ..Default::default()
    };
    RouteSpecifier::RouteConfig(RouteConfiguration {
        name,
        virtual_hosts: vec![all],
        validate_clusters: Some(false),
        ..Default::default()
    })
}
