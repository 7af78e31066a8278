//! Filter chains: what becomes of each kind of traffic to a port (POLICY.md I2).
//!
//! A chain's bytes depend only on that chain's inputs, so that a switch of mode costs no established connection that
//! stays legal (ENVOY.md E19). STRICT and PERMISSIVE share the chain of the mesh.

use eastwest_engine::{access::Access, listeners::PLAIN_HTTP};
use eastwest_model::{Name, TrustDomain, mesh::TlsVersion, policy::MutualTlsMode, service::Protocol};
use eastwest_proto::envoy::{
    config::{
        listener::v3::{Filter, FilterChain, FilterChainMatch},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier,
};

use super::Port;
use crate::sidecar::{
    access::{self, Carries},
    lds::filters::{self, Side},
    names::{BLACK_HOLE_CLUSTER, INBOUND_PASSTHROUGH_CLUSTER, VIRTUAL_INBOUND, inbound_cluster},
    route::Route,
    tls_context,
};

/// By these a client of the mesh says in the handshake that it carries HTTP …
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// … or bytes.
const MESH_BYTES: [&str; 2] = ["istio-peer-exchange", "istio"];

/// A connection to the listener's own port was not intercepted, and would come back for ever.
pub(super) fn black_hole(listener_port: u16, log: Option<&Name>) -> FilterChain {
    FilterChain {
        name: format!("{VIRTUAL_INBOUND}-blackhole"),
        filter_chain_match: Some(to(Some(listener_port))),
        filters: vec![filters::tcp(BLACK_HOLE_CLUSTER, log)],
        ..Default::default()
    }
}

/// A match by destination port alone.
pub(super) fn to(port: Option<u16>) -> FilterChainMatch {
    FilterChainMatch { destination_port: port.map(u32::from), ..Default::default() }
}

/// What a peer has to prove in mutual TLS.
#[derive(Hash, Clone, Copy)]
pub(super) struct MutualTls<'a> {
    pub(super) trust_domains: &'a [TrustDomain],
    pub(super) min_version: TlsVersion,
}

/// The chains of one port, or of all ports that have none of their own.
pub(super) struct Group<'a> {
    port: Option<u16>,
    protocol: Protocol,
    cluster: String,
    log: Option<&'a Name>,
    access: &'a Access,
}

impl<'a> Group<'a> {
    /// The group of a port.
    pub(super) fn of(port: &Port, log: Option<&'a Name>, access: &'a Access) -> Self {
        let cluster = match port.listed {
            Some(_) => inbound_cluster(port.number),
            None => INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        };
        Self { port: Some(port.number), protocol: port.protocol(), cluster, log, access }
    }

    /// The group of all ports that have none of their own.
    pub(super) fn unlisted(log: Option<&'a Name>, access: &'a Access) -> Self {
        let cluster = INBOUND_PASSTHROUGH_CLUSTER.to_owned();
        Self { port: None, protocol: Protocol::Undeclared, cluster, log, access }
    }

    /// The chains behind an inspection that finds TLS as well as HTTP.
    pub(super) fn inspected(&self, mode: MutualTlsMode, tls: MutualTls<'_>) -> Vec<FilterChain> {
        let mut chains = Vec::new();
        if mode != MutualTlsMode::Disable {
            chains.extend(self.mesh(tls));
        }
        if mode == MutualTlsMode::Strict {
            let carries = if self.protocol.is_http() { Carries::Http } else { Carries::Bytes };
            chains.push(self.mutual("tls", &[], carries, tls));
        } else {
            chains.extend(self.plaintext());
            if !self.protocol.is_http() {
                chains.push(self.chain("application-tls", "tls", &[], Carries::Bytes));
            }
        }
        chains
    }

    /// The chain of a port in plaintext whose protocol is declared: there is nothing to find out.
    pub(super) fn uninspected(&self) -> FilterChain {
        let carries = if self.protocol.is_http() { Carries::Http } else { Carries::Bytes };
        self.chain("plaintext", "", &[], carries)
    }

    /// Clients of the mesh; the same in STRICT and PERMISSIVE.
    fn mesh(&self, tls: MutualTls<'_>) -> Vec<FilterChain> {
        let any: Vec<_> = MESH_BYTES.into_iter().chain(MESH_HTTP).collect();
        match self.protocol {
            Protocol::Http | Protocol::Http2 => vec![self.mutual("mesh", &any, Carries::Http, tls)],
            Protocol::Tcp | Protocol::Tls => vec![self.mutual("mesh", &any, Carries::Bytes, tls)],
            Protocol::Undeclared => vec![
                self.mutual("mesh-http", &MESH_HTTP, Carries::Http, tls),
                self.mutual("mesh-tcp", &MESH_BYTES, Carries::Bytes, tls),
            ],
        }
    }

    /// The chains behind an inspection that may find HTTP.
    pub(super) fn plaintext(&self) -> Vec<FilterChain> {
        match self.protocol {
            Protocol::Http | Protocol::Http2 => {
                vec![self.chain("plaintext", "raw_buffer", &[], Carries::Http)]
            }
            Protocol::Tcp | Protocol::Tls => {
                vec![self.chain("plaintext", "raw_buffer", &[], Carries::Bytes)]
            }
            Protocol::Undeclared => vec![
                self.chain("plaintext-http", "raw_buffer", &PLAIN_HTTP, Carries::Http),
                self.chain("plaintext-tcp", "raw_buffer", &[], Carries::Bytes),
            ],
        }
    }

    /// A chain that ends mutual TLS.
    fn mutual(&self, name: &str, alpn: &[&str], carries: Carries, tls: MutualTls<'_>) -> FilterChain {
        let http = carries == Carries::Http;
        let socket = tls_context::downstream(tls.trust_domains, tls.min_version, http);
        FilterChain { transport_socket: Some(socket), ..self.chain(name, "tls", alpn, carries) }
    }

    fn chain(&self, name: &str, transport: &str, alpn: &[&str], carries: Carries) -> FilterChain {
        FilterChain {
            name: chain_name(self.port, name),
            filter_chain_match: Some(FilterChainMatch {
                transport_protocol: transport.to_owned(),
                application_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
                ..to(self.port)
            }),
            filters: self.filters(carries),
            ..Default::default()
        }
    }

    /// Access control, then what hands the bytes or requests on.
    fn filters(&self, carries: Carries) -> Vec<Filter> {
        if carries == Carries::Bytes {
            return access::network(self.access)
                .into_iter()
                .chain([filters::tcp(&self.cluster, self.log)])
                .collect();
        }
        let all = VirtualHost {
            name: "inbound".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![Route::pass_through(&self.cluster).encode()],
            ..Default::default()
        };
        let routes = RouteConfiguration {
            name: self.cluster.clone(),
            virtual_hosts: vec![all],
            request_headers_to_remove: filters::spellings_of_forwarded_certificate(),
            validate_clusters: Some(false),
            ..Default::default()
        };
        let side = Side::Inbound(self.access);
        vec![filters::http(side, &self.cluster, RouteSpecifier::RouteConfig(routes), None, None, self.log)]
    }
}

/// The name of a chain of a port, or of all ports that have none of their own.
pub(super) fn chain_name(port: Option<u16>, name: &str) -> String {
    let group = port.map_or("passthrough".to_owned(), |port| port.to_string());
    format!("{VIRTUAL_INBOUND}-{group}-{name}")
}
