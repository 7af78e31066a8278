//! Hosts that get calls which are not meant for them, and hosts that get none.

use std::collections::BTreeSet;

use eastwest_model::{Diagnostic, Kind, service::Protocol};

use super::warning;
use crate::{
    calls::{Caller, Claim},
    compute::registry,
    settings::{OutboundCluster, OutboundService},
};

/// What the listeners of the clients of a scope do with calls to each host, where that is probably not intended.
pub(crate) fn findings(caller: &Caller<'_>) -> BTreeSet<Diagnostic> {
    let services = caller.outbound.services.values();
    let clusters = services.flat_map(|service| service.whole().map(move |cluster| (&**service, cluster)));
    clusters.filter_map(|(service, cluster)| finding(caller, service, cluster)).collect()
}

fn finding(caller: &Caller<'_>, service: &OutboundService, cluster: &OutboundCluster) -> Option<Diagnostic> {
    let port = cluster.port.number;
    let host = &cluster.host;
    let message = match caller.claim(cluster) {
        Claim::Own if service.is_addressless() && caller.takes_whole_port(cluster) => {
            let kind =
                if cluster.port.protocol == Protocol::Tls { "other bytes than TLS" } else { "connections" };
            format!(
                "{host} has no addresses, so {kind} to port {port} of any address lead to it, whomever they are meant for: list its addresses (rule L4)"
            )
        }
        Claim::Own => return None,
        Claim::Other(other) if other.host == *host => {
            format!("has port {port} twice, and only one of them takes calls: write each number once")
        }
        Claim::Other(other) => {
            format!("calls to {host}:{port} lead to {}: {} (rules L1, L5)", other.host, remedy(service))
        }
        Claim::Unknown if service.is_addressless() => format!(
            "no listener leads to {host}:{port}: it has no addresses, other hosts use the port, and bytes name no host, so its settings do not count: list its addresses, or use protocol TLS if clients send its name in the handshake (rule L4)"
        ),
        Claim::Unknown => {
            format!("no listener leads to {host}:{port}: {} (rules L1, L5)", remedy(service))
        }
    };
    let snapshot = caller.snapshot;
    let (held, _) = snapshot.hosts.get_key_value(host)?;
    let view = registry::view(snapshot, caller.scope, held)?;
    let field = if service.owner.kind == Kind::ServiceEntry { "spec.addresses" } else { "spec" };
    Some(warning(&service.owner, &view.owner.origin, field, message))
}

fn remedy(service: &OutboundService) -> &'static str {
    match service.owner.kind {
        Kind::ServiceEntry => "give it a name and addresses that no other host has",
        _ => "another object has its name or its address",
    }
}
