//! `virtualInbound`: what a workload asks of its callers, as filter chains.
//!
//! Listener-level fields never depend on a mode, and a chain's bytes only on that chain's inputs, so that a switch of
//! mode costs no established connection that stays legal (envoy-dataplane.md section 5). STRICT and PERMISSIVE share
//! the chain of the mesh. The outcome of every kind of traffic is that of tls-policy.md I2.

use eastwest_engine::settings::Inbound;
use eastwest_model::{Name, TrustDomain, mesh::TlsVersion, policy::MutualTlsMode, service::Protocol};
use eastwest_proto::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier,
};
use eastwest_xds::{EncodedResource, TypeUrl};

use super::filters::{self, INSPECTION, PLAIN_HTTP, Side};
use crate::{
    eds::socket_address,
    names::{BLACK_HOLE_CLUSTER, INBOUND_PASSTHROUGH_CLUSTER, VIRTUAL_INBOUND, inbound_cluster},
    rds,
    resource::{Generator, encode},
    tls_context,
};

/// By these a client of the mesh says in the handshake that it carries HTTP …
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// … or bytes.
const MESH_BYTES: [&str; 2] = ["istio-peer-exchange", "istio"];
/// Inputs of `virtualInbound`.
#[derive(Hash)]
pub(crate) struct InboundInputs<'a> {
    listener_port: u16,
    mode: MutualTlsMode,
    /// Port, mode, and what it carries if a service lists it.
    ports: Vec<(u16, MutualTlsMode, Option<Protocol>)>,
    trust_domains: &'a [TrustDomain],
    min_tls_version: TlsVersion,
    access_log_file: Option<&'a Name>,
}

impl<'a> InboundInputs<'a> {
    pub(crate) fn new(inbound: &'a Inbound, listener_port: u16) -> Self {
        let ports = inbound.ports.iter().map(|(number, port)| (*number, port.mode, port.listed));
        Self {
            listener_port,
            mode: inbound.mode,
            ports: ports.filter(|(number, ..)| *number != listener_port).collect(),
            trust_domains: &inbound.trust_domains,
            min_tls_version: inbound.min_tls_version,
            access_log_file: inbound.access_log_file.as_ref(),
        }
    }
}

impl Generator for InboundInputs<'_> {
    const KIND: &'static str = "virtualInbound";

    fn generate(&self) -> EncodedResource {
        let mut chains = vec![self.black_hole()];
        for (number, mode, listed) in &self.ports {
            let (cluster, protocol) = match listed {
                Some(protocol) => (inbound_cluster(*number), *protocol),
                None => (INBOUND_PASSTHROUGH_CLUSTER.to_owned(), Protocol::Undeclared),
            };
            chains.extend(Group { inputs: self, port: Some(*number), cluster }.chains(*mode, protocol));
        }
        let unlisted = Group { inputs: self, port: None, cluster: INBOUND_PASSTHROUGH_CLUSTER.to_owned() };
        chains.extend(unlisted.chains(self.mode, Protocol::Undeclared));
        let listener = Listener {
            name: VIRTUAL_INBOUND.to_owned(),
            address: Some(socket_address("0.0.0.0", self.listener_port)),
            filter_chains: chains,
            listener_filters: vec![
                filters::original_dst(),
                filters::tls_inspector(),
                filters::http_inspector(),
            ],
            listener_filters_timeout: Some(INSPECTION),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Inbound as i32,
            access_log: filters::refusal_log(self.access_log_file),
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, VIRTUAL_INBOUND, &listener)
    }
}

impl InboundInputs<'_> {
    /// A connection to the listener's own port was not intercepted, and would come back for ever.
    fn black_hole(&self) -> FilterChain {
        FilterChain {
            name: "virtualInbound-blackhole".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(self.listener_port.into()),
                ..Default::default()
            }),
            filters: vec![filters::tcp(BLACK_HOLE_CLUSTER, self.access_log_file)],
            ..Default::default()
        }
    }
}

/// The chains of one port, or of all ports that have none of their own.
struct Group<'a> {
    inputs: &'a InboundInputs<'a>,
    port: Option<u16>,
    cluster: String,
}

/// What a chain does with the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Http,
    Bytes,
}

impl Group<'_> {
    fn chains(&self, mode: MutualTlsMode, protocol: Protocol) -> Vec<FilterChain> {
        let mut chains = Vec::new();
        if mode != MutualTlsMode::Disable {
            chains.extend(self.mesh(protocol));
        }
        if mode == MutualTlsMode::Strict {
            let carries = if protocol.is_http() { Carries::Http } else { Carries::Bytes };
            chains.push(self.mutual("tls", &[], carries));
        } else {
            chains.extend(self.plaintext(protocol));
            if !protocol.is_http() {
                chains.push(self.chain("application-tls", "tls", &[], Carries::Bytes));
            }
        }
        chains
    }

    /// Clients of the mesh; the same in STRICT and PERMISSIVE.
    fn mesh(&self, protocol: Protocol) -> Vec<FilterChain> {
        let any: Vec<_> = MESH_BYTES.into_iter().chain(MESH_HTTP).collect();
        match protocol {
            Protocol::Http | Protocol::Http2 => vec![self.mutual("mesh", &any, Carries::Http)],
            Protocol::Tcp => vec![self.mutual("mesh", &any, Carries::Bytes)],
            Protocol::Undeclared => vec![
                self.mutual("mesh-http", &MESH_HTTP, Carries::Http),
                self.mutual("mesh-tcp", &MESH_BYTES, Carries::Bytes),
            ],
        }
    }

    fn plaintext(&self, protocol: Protocol) -> Vec<FilterChain> {
        match protocol {
            Protocol::Http | Protocol::Http2 => {
                vec![self.chain("plaintext", "raw_buffer", &[], Carries::Http)]
            }
            Protocol::Tcp => vec![self.chain("plaintext", "raw_buffer", &[], Carries::Bytes)],
            Protocol::Undeclared => vec![
                self.chain("plaintext-http", "raw_buffer", &PLAIN_HTTP, Carries::Http),
                self.chain("plaintext-tcp", "raw_buffer", &[], Carries::Bytes),
            ],
        }
    }

    /// A chain that ends mutual TLS.
    fn mutual(&self, name: &str, alpn: &[&str], carries: Carries) -> FilterChain {
        let inputs = self.inputs;
        let http = carries == Carries::Http;
        let socket = tls_context::downstream(inputs.trust_domains, inputs.min_tls_version, http);
        FilterChain { transport_socket: Some(socket), ..self.chain(name, "tls", alpn, carries) }
    }

    fn chain(&self, name: &str, transport: &str, alpn: &[&str], carries: Carries) -> FilterChain {
        let group = self.port.map_or("passthrough".to_owned(), |port| port.to_string());
        FilterChain {
            name: format!("{VIRTUAL_INBOUND}-{group}-{name}"),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: self.port.map(u32::from),
                transport_protocol: transport.to_owned(),
                application_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
                ..Default::default()
            }),
            filters: vec![self.filter(carries)],
            ..Default::default()
        }
    }

    fn filter(&self, carries: Carries) -> Filter {
        let log = self.inputs.access_log_file;
        if carries == Carries::Bytes {
            return filters::tcp(&self.cluster, log);
        }
        let all = VirtualHost {
            name: "inbound".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![rds::to_cluster(&self.cluster, false)],
            ..Default::default()
        };
        let routes = RouteConfiguration {
            name: self.cluster.clone(),
            virtual_hosts: vec![all],
            validate_clusters: Some(false),
            ..Default::default()
        };
        filters::http(Side::Inbound, &self.cluster, RouteSpecifier::RouteConfig(routes), None, log)
    }
}
