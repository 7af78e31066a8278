//! Endpoints of clusters, each with its mark for mutual TLS (tls-policy.md A3, A4).

use std::collections::BTreeMap;

use eastwest_engine::settings::{Endpoint, EndpointAddress, OutboundCluster};
use eastwest_proto::envoy::config::{
    core::v3::{Address, Metadata, SocketAddress, address, socket_address::PortSpecifier},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
        lb_endpoint::HostIdentifier,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Struct;

use crate::{
    cds::text,
    resource::{Generator, encode},
};

/// Where a cluster's transport socket matches look (envoy-dataplane.md section 4).
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// Inputs of an assignment.
#[derive(Hash)]
pub(crate) struct AssignmentInputs<'a> {
    name: String,
    endpoints: &'a [Endpoint],
}

impl<'a> AssignmentInputs<'a> {
    pub(crate) fn new(cluster: &'a OutboundCluster) -> Self {
        Self { name: cluster.name(), endpoints: &cluster.endpoints }
    }
}

impl Generator for AssignmentInputs<'_> {
    const KIND: &'static str = "assignment";

    fn generate(&self) -> EncodedResource {
        // EDS takes addresses only.
        let addresses = self.endpoints.iter().filter(|one| matches!(one.address, EndpointAddress::Socket(_)));
        let addresses: Vec<_> = addresses.cloned().collect();
        encode(TypeUrl::ENDPOINT, &self.name, &assignment(&self.name, &addresses))
    }
}

/// The answer to a name that nobody knows: silence would leave the cluster warming (xds.md rule 23).
pub(crate) fn empty(name: &str) -> EncodedResource {
    encode(TypeUrl::ENDPOINT, name, &assignment(name, &[]))
}

/// The ready endpoints.
pub(crate) fn assignment(name: &str, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    let lb_endpoints: Vec<_> = endpoints.iter().filter(|one| one.ready).map(lb_endpoint).collect();
    let here = LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    let endpoints = if here.lb_endpoints.is_empty() { Vec::new() } else { vec![here] };
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints, ..Default::default() }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let (host, port) = match &endpoint.address {
        EndpointAddress::Socket(address) => (address.ip().to_string(), address.port()),
        EndpointAddress::Dns { host, port } => (host.to_string(), *port),
    };
    let envoy = EnvoyEndpoint { address: Some(socket_address(&host, port)), ..Default::default() };
    LbEndpoint {
        metadata: endpoint.mutual_tls.then(mutual_tls),
        load_balancing_weight: (endpoint.weight > 0).then_some(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(envoy)),
        ..Default::default()
    }
}

fn mutual_tls() -> Metadata {
    let mark = Struct { fields: BTreeMap::from([("tlsMode".to_owned(), text("istio"))]) };
    Metadata { filter_metadata: BTreeMap::from([(SOCKET_MATCH.to_owned(), mark)]), ..Default::default() }
}

/// A TCP address.
pub(crate) fn socket_address(host: &str, port: u16) -> Address {
    let socket = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}
