//! Why a call goes where it goes, in a sentence.

use std::collections::BTreeSet;

use eastwest_model::{Family, Host};

use super::{EndpointExplanation, Verdict};
use crate::{
    calls::{Caller, Stranger, Target, Way},
    listeners::{FirstBytes, Reached},
    settings::{ClientTlsSetting, OutboundCluster},
    world::is_placeholder,
};

/// Why a call leads elsewhere than to the host that it names, if it does.
pub(super) fn note(caller: &Caller<'_>, target: &Target, way: &Way<'_>) -> Option<String> {
    let unknown = |end: &str| Some(format!("{}: {end}", unreached(caller, target)));
    match way.resolved.to {
        Reached::Cluster(cluster) if target.host.as_ref() == Some(&cluster.host) => None,
        Reached::Cluster(cluster) => elsewhere(caller, target, cluster),
        Reached::Passthrough => unknown("its bytes are passed through untouched"),
        Reached::BlackHole => unknown("outboundTrafficPolicy is REGISTRY_ONLY, so the connection is closed"),
        Reached::Answered(status) => unknown(&format!(
            "outboundTrafficPolicy is REGISTRY_ONLY, so the client's proxy answers {status}"
        )),
    }
}

/// A host takes a call that does not name it.
fn elsewhere(caller: &Caller<'_>, target: &Target, cluster: &OutboundCluster) -> Option<String> {
    let service = caller.outbound.services.get(&cluster.host)?;
    let addressless = service.is_addressless();
    match (addressless, &target.first_bytes) {
        (true, FirstBytes::Other) => Some(format!(
            "{} has no addresses and is the only such host on port {}, so bytes to that port of any address lead to it",
            cluster.host, target.port
        )),
        _ if target.host.is_none() && target.is_exact => None,
        _ => Some(format!("the connection leads to {}", cluster.host)),
    }
}

/// Why no host takes a call.
fn unreached(caller: &Caller<'_>, target: &Target) -> String {
    let (namespace, asked) = (caller.scope.namespace(), &target.asked);
    match (&target.stranger, &target.host) {
        (None, Some(host)) => unreached_host(caller, target, host),
        (Some(Stranger::Hidden(host)), _) => {
            format!("{host} is not visible from namespace {namespace}, by exportTo or a Sidecar")
        }
        (Some(Stranger::AliasOf(host)), _) => format!(
            "{asked} is an ExternalName alias of {host}, which no service visible from namespace {namespace} describes"
        ),
        (Some(Stranger::Circle), _) => format!("{asked} is an ExternalName alias that leads in a circle"),
        _ => format!("no service visible from namespace {namespace} knows {asked}"),
    }
}

/// Why a host that the client sees does not take a call that names it.
fn unreached_host(caller: &Caller<'_>, target: &Target, host: &Host) -> String {
    let port = target.port;
    if caller.cluster(host, port).is_none() {
        return format!("{host} has no port {port} that is visible here");
    }
    match &target.first_bytes {
        FirstBytes::Other => format!(
            "{host} has no addresses and shares port {port} with other hosts, and {} lead to none of them",
            target.first_bytes
        ),
        first_bytes => format!("no listener leads to {host}:{port} for {first_bytes}"),
    }
}

/// A name that has no address that the client can dial.
pub(super) fn no_address(caller: &Caller<'_>, target: &Target) -> String {
    if let Some(address) = target.addresses.iter().flatten().next() {
        let family = Family::of(*address);
        return format!(
            "{} is reached over {family} alone, and the client has no such address",
            target.asked
        );
    }
    match &target.stranger {
        Some(Stranger::Circle) => {
            format!("{} is an ExternalName alias that leads in a circle: it has no address", target.asked)
        }
        Some(Stranger::Hidden(host)) => format!(
            "no endpoint of {host} takes requests, and it is not visible from namespace {}",
            caller.scope.namespace()
        ),
        _ => nobody(caller, target),
    }
}

/// Nothing is known to be behind a host.
pub(super) const NOBODY: &str = "no endpoint takes requests";

/// Why nothing is behind a target.
pub(super) fn nobody(caller: &Caller<'_>, target: &Target) -> String {
    let service = target.host.as_ref().and_then(|host| caller.snapshot.service_of(host));
    let selector = service.and_then(|service| service.selector.as_ref().map(|selector| (service, selector)));
    let Some((service, selector)) = selector else { return NOBODY.to_owned() };
    let space = caller.snapshot.namespace(service.meta.namespace());
    if space.workloads.selected(selector).next().is_some() {
        return NOBODY.to_owned();
    }
    let labels: Vec<_> = selector.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{NOBODY}: no workload that is known here has the labels {}", labels.join(","))
}

/// What is not known of a call and its endpoints, and was taken for granted.
pub(super) fn unknown(
    caller: &Caller<'_>,
    target: &Target,
    endpoints: &[EndpointExplanation],
) -> Vec<String> {
    let service = target.host.as_ref().and_then(|host| caller.snapshot.service_of(host));
    let mut cluster_ips = service.into_iter().flat_map(|service| &service.cluster_ips);
    let mut found = Vec::new();
    if let Some(host) = target.host.as_ref().filter(|_| cluster_ips.any(|address| is_placeholder(*address))) {
        found.push(format!("{host} has no clusterIP here (a cluster gives it one)"));
    }
    let workloads = endpoints.iter().filter_map(|one| caller.snapshot.workload(one.workload.as_ref()?));
    let templates: BTreeSet<String> = workloads
        .filter(|one| one.addresses.first().is_some_and(|address| is_placeholder(*address)))
        .map(|one| one.meta.object.to_string())
        .collect();
    if !templates.is_empty() {
        let names: Vec<_> = templates.into_iter().collect();
        found.push(format!("no Pod of {} is known, so its template stands for it", names.join(", ")));
    }
    found
}

/// The reason of a verdict about endpoints. What is plaintext to the proxy may be the application's own TLS.
pub(super) fn of_bytes(verdict: Verdict, reason: String, own_tls: bool) -> String {
    match verdict {
        Verdict::Plaintext if own_tls => format!("{reason}; the application's own TLS is handed on as it is"),
        _ => reason,
    }
}

/// The verdict where nothing is known of the server.
pub(super) fn sent(tls: &ClientTlsSetting) -> Verdict {
    match tls {
        ClientTlsSetting::Disable => Verdict::Plaintext,
        ClientTlsSetting::Auto(_) | ClientTlsSetting::IstioMutual(_) => Verdict::MutualTls,
        ClientTlsSetting::Simple(_) | ClientTlsSetting::Mutual(_) => Verdict::Tls,
    }
}

/// What a client does where nothing is known of the server.
pub(super) fn dialled_as_resolved(tls: &ClientTlsSetting) -> String {
    let what = match sent(tls) {
        Verdict::Plaintext => "the bytes as they are",
        Verdict::MutualTls => "mutual TLS, which the server must accept",
        _ => "TLS, which the server must answer",
    };
    format!("the proxy dials the address that the client resolved, and sends {what}")
}
