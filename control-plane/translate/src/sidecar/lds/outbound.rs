//! `virtualOutbound`: takes all outbound connections and hands them to the listener of their address.

use eastwest_engine::{listeners::Destination, settings::Outbound};
use eastwest_model::{Name, mesh::OutboundTrafficPolicy};
use eastwest_proto::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChainMatch, Listener},
};
use eastwest_xds::{EncodedResource, TypeUrl};

use super::filters;
use crate::{
    resource::{Generator, encode},
    sidecar::{
        address::Interception,
        names::{BLACK_HOLE_CLUSTER, VIRTUAL_OUTBOUND},
    },
};

/// Inputs of `virtualOutbound`.
#[derive(Hash)]
pub(crate) struct VirtualOutbound<'a> {
    at: Interception,
    unknown_hosts: OutboundTrafficPolicy,
    access_log_file: Option<&'a Name>,
}

impl<'a> VirtualOutbound<'a> {
    pub(crate) fn new(outbound: &'a Outbound, listener_port: u16) -> Self {
        let access_log_file = outbound.access_log_file.as_ref();
        let at = Interception { port: listener_port, families: outbound.families };
        Self { at, unknown_hosts: outbound.unknown_hosts, access_log_file }
    }
}

impl Generator for VirtualOutbound<'_> {
    const KIND: &'static str = "virtualOutbound";

    fn generate(&self) -> EncodedResource {
        let tcp = |cluster| filters::tcp(cluster, self.access_log_file);
        let to_us = FilterChainMatch { destination_port: Some(self.at.port.into()), ..Default::default() };
        let own_port = filters::chain("virtualOutbound-blackhole", Some(to_us), tcp(BLACK_HOLE_CLUSTER));
        let unknown = Destination::unknown(self.unknown_hosts).cluster_name();
        let unknown = filters::chain("virtualOutbound-catchall-tcp", None, tcp(&unknown));
        let (address, additional_addresses) = self.at.addresses();
        let listener = Listener {
            name: VIRTUAL_OUTBOUND.to_owned(),
            address,
            additional_addresses,
            use_original_dst: Some(true),
            filter_chains: vec![own_port, unknown],
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        encode(TypeUrl::LISTENER, VIRTUAL_OUTBOUND, &listener)
    }
}
