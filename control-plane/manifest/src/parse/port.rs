//! Ports and what they carry.

use eastwest_model::{
    Name,
    service::{Protocol, TargetPort},
};

use crate::field::Field;

/// Ports whose servers send the first bytes, so that waiting for the client's bytes would block: SMTP, DNS, MySQL,
/// MongoDB.
const SERVER_FIRST: &[u16] = &[25, 53, 3306, 27017];

/// Istio's protocol names; UDP is known and not proxied.
const PROTOCOLS: &[(&str, Option<Protocol>)] = &[
    ("http", Some(Protocol::Http)),
    ("http_proxy", Some(Protocol::Http)),
    ("grpc-web", Some(Protocol::Http)),
    ("http2", Some(Protocol::Http2)),
    ("grpc", Some(Protocol::Http2)),
    ("https", Some(Protocol::Tls)),
    ("tls", Some(Protocol::Tls)),
    ("tcp", Some(Protocol::Tcp)),
    ("mongo", Some(Protocol::Tcp)),
    ("mysql", Some(Protocol::Tcp)),
    ("redis", Some(Protocol::Tcp)),
    ("udp", None),
];

fn lookup(name: &str) -> Option<Option<Protocol>> {
    PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, protocol)| *protocol)
}

/// What a port of a Kubernetes Service carries: by `appProtocol`, else by its name up to the first `-`. `None` = UDP.
pub(super) fn of_service(app_protocol: Option<&str>, name: &str, number: u16) -> Option<Protocol> {
    let word = match app_protocol {
        Some("kubernetes.io/h2c") => return Some(Protocol::Http2),
        Some("kubernetes.io/ws") => return Some(Protocol::Http),
        Some("kubernetes.io/wss") => return Some(Protocol::Tls),
        Some(word) => word,
        None => name,
    };
    let is_grpc_web = word.get(.."grpc-web".len()).is_some_and(|head| head.eq_ignore_ascii_case("grpc-web"));
    let prefix = if is_grpc_web { "grpc-web" } else { word.split('-').next().unwrap_or(word) };
    lookup(prefix).unwrap_or(Some(match SERVER_FIRST.contains(&number) {
        true => Protocol::Tcp,
        false => Protocol::Undeclared,
    }))
}

/// `protocol` of a port in an object of Istio, where an unknown word is an error. `None` = UDP.
pub(super) fn of_istio(field: &Field<'_>) -> Option<Protocol> {
    match field.name() {
        None => Some(Protocol::Undeclared),
        Some(word) => lookup(&word).unwrap_or_else(|| {
            let known: Vec<_> = PROTOCOLS.iter().map(|(name, _)| name.to_ascii_uppercase()).collect();
            field.error(format_args!("{word:?} is not among the protocols {}", known.join(", ")));
            None
        }),
    }
}

/// `protocol` of a Kubernetes port is TCP, the default.
pub(super) fn is_tcp(port: &Field<'_>) -> bool {
    let protocol = port.get("protocol");
    if let Some(word) = protocol.text().filter(|word| !matches!(*word, "TCP" | "UDP" | "SCTP"))
        && lookup(word).is_some()
    {
        let carried = word.to_ascii_lowercase();
        protocol.error(format_args!(
            "{word:?} is what the port carries: write TCP here, and appProtocol: {carried} or a name like {carried}-web"
        ));
        return true;
    }
    protocol.choice("protocols", &[("TCP", true), ("UDP", false), ("SCTP", false)]).unwrap_or(true)
}

/// A port's number or the name of a container port (IntOrString); 0 and "" count as unset.
pub(super) fn target(field: &Field<'_>, number: u16) -> TargetPort {
    match field.port_or_name() {
        None => TargetPort::Number(number),
        Some(Err(name)) => TargetPort::Named(name),
        Some(Ok(number)) => TargetPort::Number(number),
    }
}

/// `name → port` as in a WorkloadEntry's `ports`.
pub(super) fn by_name(field: &Field<'_>) -> std::collections::BTreeMap<Name, u16> {
    field.entries().iter().filter_map(|(name, port)| Some(((*name).into(), port.port()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_from_app_protocol_or_name() {
        use Protocol::{Http, Http2, Tcp, Tls, Undeclared};
        let cases = [
            (None, "http", 80, Some(Http)),
            (None, "http-web", 80, Some(Http)),
            (None, "grpc-web-x", 80, Some(Http)),
            (None, "grpc-x", 80, Some(Http2)),
            (None, "HTTPS", 443, Some(Tls)),
            (None, "web", 80, Some(Undeclared)),
            (None, "", 3306, Some(Tcp)),
            (None, "udp-x", 80, None),
            (Some("http2"), "tcp", 80, Some(Http2)),
            (Some("kubernetes.io/h2c"), "tcp", 80, Some(Http2)),
            (Some("kafka"), "http", 80, Some(Undeclared)),
        ];
        for (app, name, number, expected) in cases {
            assert_eq!(of_service(app, name, number), expected, "{app:?} {name}");
        }
    }
}
