//! EndpointSlices, and Endpoints as a cluster mirrors them into slices.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    MeshConfig, Meta, Name, Object,
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
    let service = meta.labels.get(SERVICE_LABEL).cloned();
    let slice = EndpointSlice {
        service: service.clone().unwrap_or_default(),
        endpoints: if of_addresses { endpoints.iter().map(read_endpoint).collect() } else { Vec::new() },
        ports: read_ports(&root.get("ports")),
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
        pod: pod(&target),
        ports: None,
    }
}

fn pod(target: &Field<'_>) -> Option<Name> {
    if target.get("kind").text() == Some("Pod") { target.get("name").name() } else { None }
}

fn read_ports(field: &Field<'_>) -> BTreeMap<Name, u16> {
    let ports = field.list();
    let ports = ports.iter().filter(|field| port::is_tcp(field));
    ports
        .filter_map(|field| Some((field.get("name").name().unwrap_or_default(), field.get("port").port()?)))
        .collect()
}

/// The Endpoints of the Service of the same name. Each subset has ports of its own.
pub(super) fn read_endpoints(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let (mut endpoints, mut all_ports) = (Vec::new(), BTreeMap::new());
    for subset in root.get("subsets").list() {
        let ports = read_ports(&subset.get("ports"));
        all_ports.extend(ports.clone());
        for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            endpoints.extend(subset.get(list).list().iter().map(|address| SliceEndpoint {
                addresses: address.get("ip").parse(str::parse).into_iter().collect(),
                ready,
                pod: pod(&address.get("targetRef")),
                ports: Some(ports.clone()),
            }));
        }
    }
    let service = meta.name().clone();
    Some(Object::EndpointSlice(Arc::new(EndpointSlice { service, endpoints, ports: all_ports, meta })))
}
