//! EndpointSlices.

use std::sync::Arc;

use eastwest_model::{
    MeshConfig, Meta, Object,
    service::{EndpointSlice, SliceEndpoint},
};

use super::port;
use crate::field::Field;

/// The label that names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A slice without a Service, or of host names, has no endpoints here.
pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let types = [("IPv4", true), ("IPv6", true), ("FQDN", false)];
    let of_addresses = root.get("addressType").choice("address types", &types).unwrap_or(true);
    let endpoints = root.get("endpoints").list();
    let ports = root.get("ports").list();
    let ports = ports
        .iter()
        .filter(|field| port::is_tcp(field))
        .filter_map(|field| Some((field.get("name").name().unwrap_or_default(), field.get("port").port()?)));
    let service = meta.labels.get(SERVICE_LABEL).cloned();
    let slice = EndpointSlice {
        service: service.clone().unwrap_or_default(),
        endpoints: if of_addresses { endpoints.iter().map(read_endpoint).collect() } else { Vec::new() },
        ports: ports.collect(),
        meta,
    };
    service.map(|_| Object::EndpointSlice(Arc::new(slice)))
}

fn read_endpoint(field: &Field<'_>) -> SliceEndpoint {
    let addresses = field.get("addresses").list();
    let target = field.get("targetRef");
    SliceEndpoint {
        addresses: addresses.iter().filter_map(|address| address.parse(str::parse)).collect(),
        ready: field.get("conditions").get("ready").flag().unwrap_or(true),
        pod: if target.get("kind").text() == Some("Pod") { target.get("name").name() } else { None },
    }
}
