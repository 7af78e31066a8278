//! Services.

use std::{net::IpAddr, sync::Arc};

use eastwest_model::{
    Family, Host, MeshConfig, Meta, Object, Selector,
    service::{ExportTo, Service, ServicePort},
};

use super::{export_to, metadata::texts, port};
use crate::field::Field;

const FIELDS: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.slips(FIELDS);
    let headless = spec.get("clusterIP").text() == Some("None");
    let selector = texts(&spec.get("selector"));
    let is_alias = spec.get("type").text() == Some("ExternalName");
    let target = spec.get("externalName");
    let external_name = if is_alias {
        target.required("an ExternalName service needs its target").text().map(Host::new)
    } else {
        None
    };
    let words = [("IPv4", Family::IPv4), ("IPv6", Family::IPv6)];
    let families: Vec<Family> =
        spec.get("ipFamilies").list().iter().filter_map(|family| family.choice("families", &words)).collect();
    let addresses = if is_alias { Vec::new() } else { cluster_ips(&spec) };
    let export_to = meta.annotations.get("networking.istio.io/exportTo");
    Some(Object::Service(Arc::new(Service {
        // The API server fills both in together; a manifest written by hand may have one of them.
        families: if families.is_empty() {
            addresses.iter().copied().map(Family::of).collect()
        } else {
            families
        },
        publish_not_ready: spec.get("publishNotReadyAddresses").flag().unwrap_or(false),
        cluster_ips: addresses,
        headless,
        external_name,
        ports: spec.get("ports").list().iter().filter_map(read_port).collect(),
        // Without a selector the endpoints come from elsewhere; an empty selector means the same.
        selector: (!selector.is_empty()).then_some(Selector(selector)),
        export_to: export_to.map_or(ExportTo::Default, |text| export_to::of_annotation(text)),
        meta,
    })))
}

/// `clusterIPs`, or the older `clusterIP`.
fn cluster_ips(spec: &Field<'_>) -> Vec<IpAddr> {
    let list = spec.get("clusterIPs").list();
    let fields = if list.is_empty() { vec![spec.get("clusterIP")] } else { list };
    let given = fields.iter().filter(|field| !matches!(field.text(), None | Some("" | "None")));
    given.filter_map(|field| field.parse(str::parse)).collect()
}

fn read_port(field: &Field<'_>) -> Option<ServicePort> {
    if !port::is_tcp(field) {
        return None;
    }
    field.slips(&["name", "port", "targetPort", "protocol", "appProtocol", "nodePort"]);
    let name = field.get("name").name().unwrap_or_default();
    let number = field.get("port").required("a port needs its number").port()?;
    Some(ServicePort {
        protocol: port::of_service(field.get("appProtocol").text(), &name, number)?,
        target: port::target(&field.get("targetPort"), number),
        name,
        number,
    })
}
