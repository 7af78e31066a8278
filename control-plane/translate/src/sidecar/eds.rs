//! Endpoints of clusters, each with its mark for mutual TLS (POLICY.md A3, A4).

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::settings::{
    Discovery, Endpoint, EndpointAddress, OutboundCluster, OutboundService, WorkloadTls,
};
use eastwest_proto::envoy::config::{
    core::v3::{
        Address, EnvoyInternalAddress, Metadata, address, envoy_internal_address::AddressNameSpecifier,
    },
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
        lb_endpoint::HostIdentifier,
    },
};
use eastwest_xds::{AbsentResource, EncodedResource, TypeUrl};

use crate::{
    origins::{self, Source},
    resource::{Cache, Generator, encode},
    sidecar::{address::socket_address, tls_mode},
    type_builder::TypeBuilder,
};

/// Assignments of clusters whose endpoints EDS tells.
#[derive(Debug)]
pub(crate) struct Endpoints;

impl TypeBuilder for Endpoints {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::ENDPOINT
    }

    fn sources(&self, settings: &WorkloadTls, name: &str) -> Vec<Source> {
        origins::of_cluster_named(settings, name)
    }

    fn of_host(&self, cache: &mut Cache, service: &OutboundService) -> Vec<Arc<EncodedResource>> {
        let by_eds = service.clusters.iter().filter(|cluster| cluster.discovery == Discovery::Eds);
        by_eds.map(|cluster| cache.get(&AssignmentInputs::new(cluster))).collect()
    }

    fn absent(&self) -> Option<AbsentResource> {
        Some(empty)
    }
}

/// One endpoint that takes requests.
#[derive(Clone, Hash)]
pub(crate) struct Target<'a> {
    address: &'a EndpointAddress,
    mutual_tls: bool,
    weight: u32,
}

/// The endpoints that take requests; whatever else is known about an endpoint makes no difference to Envoy.
pub(crate) fn targets(endpoints: &[Endpoint]) -> Vec<Target<'_>> {
    let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
    let target = |endpoint| {
        let Endpoint { address, mutual_tls, weight, .. }: &Endpoint = endpoint;
        Target { address, mutual_tls: *mutual_tls, weight: *weight }
    };
    ready.map(target).collect()
}

/// Inputs of an assignment.
#[derive(Hash)]
struct AssignmentInputs<'a> {
    name: String,
    targets: Vec<Target<'a>>,
}

impl<'a> AssignmentInputs<'a> {
    fn new(cluster: &'a OutboundCluster) -> Self {
        let mut targets = targets(&cluster.endpoints);
        // EDS takes addresses only.
        targets.retain(|target| matches!(target.address, EndpointAddress::Socket(_)));
        Self { name: cluster.name(), targets }
    }
}

impl Generator for AssignmentInputs<'_> {
    const KIND: &'static str = "assignment";

    fn generate(&self) -> EncodedResource {
        encode(TypeUrl::ENDPOINT, &self.name, &assignment(&self.name, &self.targets))
    }
}

/// The response for an unknown name: without one the cluster would stay in warming (XDS.md X23).
fn empty(name: &str) -> EncodedResource {
    encode(TypeUrl::ENDPOINT, name, &assignment(name, &[]))
}

/// An assignment; nothing at all instead of a locality without endpoints.
pub(crate) fn assignment(name: &str, targets: &[Target<'_>]) -> ClusterLoadAssignment {
    let here =
        LocalityLbEndpoints { lb_endpoints: targets.iter().map(lb_endpoint).collect(), ..Default::default() };
    let endpoints = if here.lb_endpoints.is_empty() { Vec::new() } else { vec![here] };
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints, ..Default::default() }
}

/// The assignment whose one endpoint is an internal listener.
pub(crate) fn internal_assignment(listener: &str) -> ClusterLoadAssignment {
    let internal = EnvoyInternalAddress {
        address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(listener.to_owned())),
        ..Default::default()
    };
    let address = Address { address: Some(address::Address::EnvoyInternalAddress(internal)) };
    let here = LocalityLbEndpoints { lb_endpoints: vec![at(address)], ..Default::default() };
    ClusterLoadAssignment { cluster_name: listener.to_owned(), endpoints: vec![here], ..Default::default() }
}

fn lb_endpoint(target: &Target<'_>) -> LbEndpoint {
    let address = match target.address {
        EndpointAddress::Socket(address) => socket_address(&address.ip().to_string(), address.port()),
        EndpointAddress::Dns { host, port } => socket_address(host, *port),
    };
    LbEndpoint {
        metadata: target.mutual_tls.then(mutual_tls),
        load_balancing_weight: (target.weight > 0).then_some(target.weight),
        ..at(address)
    }
}

fn at(address: Address) -> LbEndpoint {
    let endpoint = EnvoyEndpoint { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}

fn mutual_tls() -> Metadata {
    let filter_metadata = BTreeMap::from([(tls_mode::METADATA.to_owned(), tls_mode::istio())]);
    Metadata { filter_metadata, ..Default::default() }
}
