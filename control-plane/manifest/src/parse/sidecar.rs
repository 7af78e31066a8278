//! Sidecar, as far as TLS is concerned.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use eastwest_model::{
    Host, MeshConfig, Meta, Name, Object,
    mesh::OutboundTrafficPolicy,
    service::{EgressListener, ServicePort, Sidecar, TargetPort},
};

use super::{host, labels, mesh_config::OUTBOUND, port};
use crate::field::Field;

const FIELDS: &[&str] =
    &["workloadSelector", "ingress", "inboundConnectionPool", "egress", "outboundTrafficPolicy"];
const INGRESS_FIELDS: &[&str] = &["port", "bind", "captureMode", "defaultEndpoint", "tls", "connectionPool"];
/// Whether the redirection catches the traffic of a listener.
const CAPTURE_MODES: &[(&str, bool)] = &[("DEFAULT", true), ("IPTABLES", true), ("NONE", false)];
const PORT_FIELDS: &[&str] = &["name", "number", "protocol", "targetPort"];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    if !spec.knows(FIELDS).has_any(&FIELDS[1..]) {
        spec.error(format_args!("is empty: set one of {}", FIELDS[1..].join(", ")));
    }
    let selects = spec.get("workloadSelector");
    let selector = labels::selector(&selects.knows(&["labels"]).get("labels"));
    if selects.is_set() && selector.is_empty() {
        selects.warn("names no label, so the Sidecar holds for the whole namespace");
    }
    let policy = spec.get("outboundTrafficPolicy");
    Some(Object::Sidecar(Arc::new(Sidecar {
        selector: (!selector.is_empty()).then_some(selector),
        egress: egress(&spec.get("egress")),
        outbound_traffic_policy: policy.is_set().then(|| outbound_mode(&policy)),
        ingress: spec.get("ingress").list().iter().filter_map(ingress).collect(),
        meta,
    })))
}

/// A policy without a mode means the first of its words (enum zero), as everywhere in Istio.
fn outbound_mode(policy: &Field<'_>) -> OutboundTrafficPolicy {
    policy.knows(&["mode", "egressProxy"]);
    policy.get("mode").choice("modes", OUTBOUND).unwrap_or(OutboundTrafficPolicy::RegistryOnly)
}

fn egress(field: &Field<'_>) -> Vec<EgressListener> {
    let listeners = field.list();
    let mut seen = BTreeSet::new();
    for (place, listener) in listeners.iter().enumerate() {
        let port = listener.get("port");
        if !port.is_set() && place + 1 < listeners.len() {
            listener.error(
                "a listener without a port takes all that is left: make it the last one, and the only one",
            );
        }
        let number = port.get("number");
        if number.port_or_name().and_then(Result::ok).is_some_and(|number| !seen.insert(number)) {
            number.error("stands twice: give each listener its own port");
        }
    }
    listeners.iter().map(egress_listener).collect()
}

fn egress_listener(listener: &Field<'_>) -> EgressListener {
    let port = listener.knows(&["port", "bind", "captureMode", "hosts"]).get("port");
    let protocol = port.knows(PORT_FIELDS).get("protocol");
    port::of_istio(&protocol);
    let captures = listener.get("captureMode").choice("modes", CAPTURE_MODES).unwrap_or(true);
    let bind = listener.get("bind");
    let of_socket = bind.text().is_some_and(|text| text.starts_with("unix://"));
    if let Some(text) = bind.name().filter(|_| !of_socket)
        && text.parse::<IpAddr>().is_err()
    {
        bind.error(format_args!("{text:?} is no IP address and no unix:///PATH"));
    }
    if bind.name().is_some() || !captures {
        listener.warn(
            "its hosts are imported, but no listener of its own is made: call them by their own addresses",
        );
    }
    let number = match port.is_set() && !of_socket {
        true => port.get("number").required("a port needs its number").port(),
        false => None,
    };
    let hosts = listener.get("hosts").list();
    if hosts.is_empty() {
        listener.get("hosts").error("missing: name at least one NAMESPACE/HOST, for example ./*");
    }
    // A generic HTTP proxy may call its hosts on any port.
    let is_proxy = protocol.text().is_some_and(|text| text.eq_ignore_ascii_case("http_proxy"));
    EgressListener {
        port: number.filter(|_| !is_proxy),
        hosts: hosts.iter().filter_map(egress_host).collect(),
    }
}

/// `NAMESPACE/HOST`, where the namespace may also be `.`, `*`, `~` or, to take a host out again, `~NAMESPACE` (A8).
fn egress_host(field: &Field<'_>) -> Option<(Name, Host)> {
    let text = field.text()?;
    let remedy = "write NAMESPACE/HOST, for example shop/*, ./reviews.shop.svc.cluster.local or */*";
    let Some((namespace, name)) = text.split_once('/') else {
        field.error(format_args!("{text:?} has no namespace: {remedy}"));
        return None;
    };
    let bare = namespace.strip_prefix('~').unwrap_or(namespace);
    if !(matches!(namespace, "." | "*" | "~") || matches!(bare, "." | "*") || host::is_label(bare)) {
        field.error(format_args!("{namespace:?} is no namespace: {remedy}"));
    }
    if let Err(reason) = host::check_pattern(name) {
        field.error(format_args!("{text:?} is refused: {reason}; {remedy}"));
    }
    Some((namespace.into(), Host::new(name)))
}

/// The listener's port; the application listens at `defaultEndpoint`, else on the same port.
fn ingress(listener: &Field<'_>) -> Option<ServicePort> {
    let field = listener.knows(INGRESS_FIELDS).get("port");
    field.required("an ingress listener needs a port").knows(PORT_FIELDS);
    if !field.is_set() {
        return None;
    }
    let number = field.get("number").required("a port needs its number").port();
    let protocol = port::of_istio(&field.get("protocol"));
    let target = listener.get("defaultEndpoint").parse(endpoint_port).flatten();
    let number = number?;
    Some(ServicePort {
        name: field.get("name").name().unwrap_or_default(),
        number,
        protocol: protocol?,
        target: TargetPort::Number(target.unwrap_or(number)),
    })
}

/// The port of `127.0.0.1:8080`, `[::1]:8080` or `:8080`; none of a unix socket.
fn endpoint_port(text: &str) -> Result<Option<u16>, &'static str> {
    if text.is_empty() || text.starts_with("unix://") {
        return Ok(None);
    }
    let remedy = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH";
    let (address, port) = text.rsplit_once(':').ok_or(remedy)?;
    if !["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"].contains(&address) {
        return Err(remedy);
    }
    port.parse().ok().filter(|port| *port > 0).map(Some).ok_or(remedy)
}
