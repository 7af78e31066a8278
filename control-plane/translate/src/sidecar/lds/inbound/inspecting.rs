//! Listeners that wait for the first bytes: `virtualInbound` itself, or those behind it.

use eastwest_engine::{access::Access, settings::Inbound};
use eastwest_model::{Name, mesh::TlsVersion, policy::MutualTlsMode, service::Protocol};
use eastwest_proto::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{
        Listener,
        listener::{InternalListenerConfig, ListenerSpecifier},
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};
use prost_types::Duration;

use super::{
    Port,
    chains::{Group, MutualTls, black_hole},
};
use crate::{
    resource::{Generator, encode},
    sidecar::{
        address::Interception,
        lds::filters::{self, INSPECTION},
        names::{INBOUND_INSPECTED, INBOUND_PLAINTEXT, VIRTUAL_INBOUND},
    },
};

/// How long the listener for plaintext of undeclared protocol waits. A caller that speaks first has done so by then;
/// if not, its HTTP is carried as bytes.
const GLANCE: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// Inputs of a listener that inspects.
#[derive(Hash)]
pub(super) struct Inspecting<'a> {
    kind: Kind,
    at: Interception,
    ports: Vec<Port>,
    /// The mode of ports without settings of their own.
    unlisted: MutualTlsMode,
    tls: MutualTls<'a>,
    access_log_file: Option<&'a Name>,
    access: &'a Access,
}

/// Which listener.
#[derive(Hash, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `virtualInbound`, for all ports.
    InLine,
    /// For what is handed over. It could serve all ports, so that a switch cuts nothing, whichever listener Envoy
    /// changes first.
    Behind,
    /// For plaintext of undeclared protocol, whatever the modes are: `virtualInbound` decides what comes here.
    Plaintext,
}

impl<'a> Inspecting<'a> {
    /// The listener for all connections.
    pub(super) fn in_line(inbound: &'a Inbound, at: Interception) -> Self {
        Self {
            kind: Kind::InLine,
            at,
            ports: Port::all(inbound, at.port).collect(),
            unlisted: inbound.mode,
            tls: MutualTls { trust_domains: &inbound.trust_domains, min_version: inbound.min_tls_version },
            access_log_file: inbound.access_log_file.as_ref(),
            access: &inbound.access,
        }
    }

    /// The internal listener that tells TLS and HTTP apart.
    pub(super) fn behind(inbound: &'a Inbound, at: Interception) -> Self {
        Self { kind: Kind::Behind, ..Self::in_line(inbound, at) }
    }

    /// The internal listener for plaintext of undeclared protocol.
    pub(super) fn plaintext(inbound: &'a Inbound, at: Interception) -> Self {
        let ports = Port::all(inbound, at.port).filter(|port| port.protocol() == Protocol::Undeclared);
        Self {
            kind: Kind::Plaintext,
            ports: ports.map(|port| Port { mode: MutualTlsMode::Disable, ..port }).collect(),
            unlisted: MutualTlsMode::Disable,
            tls: MutualTls { trust_domains: &[], min_version: TlsVersion::V1_2 }, // no chain of it ends TLS
            ..Self::in_line(inbound, at)
        }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::InLine => VIRTUAL_INBOUND,
            Kind::Behind => INBOUND_INSPECTED,
            Kind::Plaintext => INBOUND_PLAINTEXT,
        }
    }

    /// Where it is found: bound to a port, or by its name alone.
    fn place(&self) -> Listener {
        match self.kind {
            Kind::InLine => {
                let (address, additional_addresses) = self.at.addresses();
                Listener { address, additional_addresses, ..Default::default() }
            }
            Kind::Behind | Kind::Plaintext => {
                let internal = ListenerSpecifier::InternalListener(InternalListenerConfig {});
                Listener { listener_specifier: Some(internal), ..Default::default() }
            }
        }
    }
}

impl Generator for Inspecting<'_> {
    const KIND: &'static str = "inspecting inbound listener";

    fn generate(&self) -> EncodedResource {
        let log = self.access_log_file;
        let looks_for_tls = self.kind != Kind::Plaintext;
        let groups = self.ports.iter().map(|port| (Group::of(port, log, self.access), port.mode));
        let groups = groups.chain([(Group::unlisted(log, self.access), self.unlisted)]);
        let chains = groups.flat_map(|(group, mode)| match looks_for_tls {
            true => group.inspected(mode, self.tls),
            false => group.plaintext(),
        });
        let tls = looks_for_tls.then(filters::tls_inspector);
        let inspectors = tls.into_iter().chain([filters::http_inspector()]);
        let listener = Listener {
            name: self.name().to_owned(),
            filter_chains: [black_hole(self.at.port, log)].into_iter().chain(chains).collect(),
            listener_filters: [filters::original_dst()].into_iter().chain(inspectors).collect(),
            listener_filters_timeout: Some(if looks_for_tls { INSPECTION } else { GLANCE }),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Inbound as i32,
            access_log: filters::refusal_log(log),
            ..self.place()
        };
        encode(TypeUrl::LISTENER, self.name(), &listener)
    }
}
