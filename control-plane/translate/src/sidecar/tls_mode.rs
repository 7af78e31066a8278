//! The mark by which an endpoint chooses mutual TLS (POLICY.md A3): it carries what a cluster's transport socket
//! match asks for.

use std::collections::BTreeMap;

use prost_types::{Struct, Value, value::Kind};

/// Where Envoy looks for it in an endpoint's metadata.
pub(crate) const METADATA: &str = "envoy.transport_socket_match";

/// `tlsMode: istio`.
pub(crate) fn istio() -> Struct {
    let value = Value { kind: Some(Kind::StringValue("istio".to_owned())) };
    Struct { fields: BTreeMap::from([("tlsMode".to_owned(), value)]) }
}
