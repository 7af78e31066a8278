//! `virtualInbound` of an Envoy with internal listeners: it inspects nothing.

use eastwest_engine::{access::Access, settings::Inbound};
use eastwest_model::{Name, policy::MutualTlsMode, service::Protocol};
use eastwest_proto::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, Listener},
};
use eastwest_xds::{EncodedResource, TypeUrl};

use super::{
    Port,
    chains::{Group, black_hole, chain_name, to},
};
use crate::{
    resource::{Generator, encode},
    sidecar::{
        address::Interception,
        lds::filters,
        names::{INBOUND_INSPECTED, INBOUND_PLAINTEXT, VIRTUAL_INBOUND},
    },
};

/// Inputs of `virtualInbound`. Of the modes only what decides who serves a port: STRICT and PERMISSIVE are one.
#[derive(Hash)]
pub(super) struct Front<'a> {
    at: Interception,
    ports: Vec<Served>,
    unlisted: Behind,
    access_log_file: Option<&'a Name>,
    access: &'a Access,
}

/// A port and who serves it.
#[derive(Hash)]
enum Served {
    /// By `virtualInbound` itself: plaintext of declared protocol, where there is nothing to find out.
    Here(Port),
    /// By a listener behind it.
    Behind(u16, Behind),
}

/// A listener behind `virtualInbound`.
#[derive(Hash, Clone, Copy)]
enum Behind {
    /// It tells TLS and HTTP apart.
    Inspected,
    /// It only looks for HTTP.
    Plaintext,
}

impl Behind {
    /// Which one serves a port of this mode, as long as something is to be found out.
    fn of(mode: MutualTlsMode) -> Self {
        if mode == MutualTlsMode::Disable { Self::Plaintext } else { Self::Inspected }
    }
}

impl<'a> Front<'a> {
    pub(super) fn new(inbound: &'a Inbound, at: Interception) -> Self {
        let served = |port: Port| match (port.mode, port.protocol()) {
            (MutualTlsMode::Disable, protocol) if protocol != Protocol::Undeclared => Served::Here(port),
            (mode, _) => Served::Behind(port.number, Behind::of(mode)),
        };
        Self {
            at,
            ports: Port::all(inbound, at.port).map(served).collect(),
            unlisted: Behind::of(inbound.mode),
            access_log_file: inbound.access_log_file.as_ref(),
            access: &inbound.access,
        }
    }
}

impl Generator for Front<'_> {
    const KIND: &'static str = "virtualInbound before internal listeners";

    fn generate(&self) -> EncodedResource {
        let log = self.access_log_file;
        let ports = self.ports.iter().map(|served| match served {
            Served::Here(port) => Group::of(port, log, self.access).uninspected(),
            Served::Behind(port, behind) => hand_over(Some(*port), *behind),
        });
        let chains = [black_hole(self.at.port, log)].into_iter().chain(ports);
        let (address, additional_addresses) = self.at.addresses();
        let listener = Listener {
            name: VIRTUAL_INBOUND.to_owned(),
            address,
            additional_addresses,
            filter_chains: chains.chain([hand_over(None, self.unlisted)]).collect(),
            listener_filters: vec![filters::original_dst()],
            traffic_direction: TrafficDirection::Inbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, VIRTUAL_INBOUND, &listener)
    }
}

/// A chain to the listener that serves a port, which is told where the connection comes from and wanted to go. It logs
/// the connection; here nothing is logged.
fn hand_over(port: Option<u16>, behind: Behind) -> FilterChain {
    let (name, listener) = match behind {
        Behind::Inspected => ("inspected", INBOUND_INSPECTED),
        Behind::Plaintext => ("plaintext", INBOUND_PLAINTEXT),
    };
    FilterChain {
        name: chain_name(port, name),
        filter_chain_match: Some(to(port)),
        filters: vec![filters::pass_addresses_on(), filters::tcp(listener, None)],
        ..Default::default()
    }
}
