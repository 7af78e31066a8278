//! What a workload asks of its callers: `virtualInbound`, and the listeners behind it.
//!
//! Whether a caller speaks TLS or HTTP is found out by listener filters, which wait for its first bytes. That wait is a
//! delay for protocols in which the server speaks first, and the filters are a field of the listener: it may not depend
//! on a mode, for a change of it closes every connection of the pod (ENVOY.md E18). So there are two
//! shapes, with the same outcome for every kind of traffic (POLICY.md I2):
//!
//! - *In line*, for every Envoy: `virtualInbound` inspects all connections.
//! - *Behind*, for an Envoy with internal listeners: `virtualInbound` inspects nothing. It serves plaintext ports of
//!   declared protocol itself, at once, and hands all others over inside the process: to a listener that inspects as
//!   above, or for plaintext ports of undeclared protocol to one that looks for HTTP and hardly waits. Which port goes
//!   where is a matter of chains.

mod chains;
mod front;
mod inspecting;

use std::sync::Arc;

use eastwest_engine::settings::Inbound;
use eastwest_model::{Families, policy::MutualTlsMode, service::Protocol};
use eastwest_xds::EncodedResource;

use self::{front::Front, inspecting::Inspecting};
use crate::{facts::ProxyFacts, resource::Cache, sidecar::address::Interception};

/// The inbound listeners of a proxy of a workload with addresses of these families.
pub(crate) fn listeners(
    cache: &mut Cache,
    inbound: &Inbound,
    facts: ProxyFacts,
    families: Families,
) -> Vec<Arc<EncodedResource>> {
    let at = Interception { port: facts.inbound_port, families };
    if facts.internal_listeners {
        vec![
            cache.get(&Front::new(inbound, at)),
            cache.get(&Inspecting::behind(inbound, at)),
            cache.get(&Inspecting::plaintext(inbound, at)),
        ]
    } else {
        vec![cache.get(&Inspecting::in_line(inbound, at))]
    }
}

/// A port with settings of its own.
#[derive(Hash, Clone, Copy)]
struct Port {
    number: u16,
    mode: MutualTlsMode,
    /// What it carries if a service lists it.
    listed: Option<Protocol>,
}

impl Port {
    /// All of them, but for the listener's own.
    fn all(inbound: &Inbound, listener_port: u16) -> impl Iterator<Item = Self> {
        let ports = inbound.ports.iter();
        ports
            .map(|(number, port)| Self { number: *number, mode: port.mode, listed: port.listed })
            .filter(move |port| port.number != listener_port)
    }

    fn protocol(&self) -> Protocol {
        self.listed.unwrap_or(Protocol::Undeclared)
    }
}
