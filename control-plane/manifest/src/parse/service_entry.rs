//! ServiceEntry.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use eastwest_model::{
    Host, MeshConfig, Meta, Object, Selector,
    service::{EntryEndpoint, Location, Resolution, ServiceEntry, ServicePort, TargetPort},
};
use ipnet::IpNet;

use super::{
    export_to::{self, Allowed},
    host, labels, pod, port, workload_entry,
};
use crate::field::Field;

const LOCATIONS: &[(&str, Location)] =
    &[("MESH_EXTERNAL", Location::External), ("MESH_INTERNAL", Location::Internal)];
const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ("DYNAMIC_DNS", Resolution::DynamicDns),
];
const FIELDS: &[&str] = &[
    "hosts",
    "addresses",
    "ports",
    "location",
    "resolution",
    "endpoints",
    "workloadSelector",
    "exportTo",
    "subjectAltNames",
];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(FIELDS);
    let (addresses, blocks) = addresses(&spec.get("addresses"));
    let entry = ServiceEntry {
        hosts: hosts(&spec.get("hosts")),
        addresses,
        blocks,
        ports: ports(&spec.get("ports")),
        location: spec.get("location").choice("locations", LOCATIONS).unwrap_or(Location::External),
        resolution: spec.get("resolution").choice("resolutions", RESOLUTIONS).unwrap_or(Resolution::None),
        endpoints: spec.get("endpoints").list().iter().map(endpoint).collect(),
        workload_selector: selector(&spec.get("workloadSelector")),
        subject_alt_names: spec.get("subjectAltNames").names(),
        export_to: export_to::read(&spec.get("exportTo"), meta.namespace(), Allowed::Nobody),
        meta,
    };
    check_resolution(&spec, &entry);
    check_ports(&spec, &entry);
    check_addresses(&spec, &entry);
    Some(Object::ServiceEntry(Arc::new(entry)))
}

/// What the kind of resolution asks of hosts and endpoints.
fn check_resolution(spec: &Field<'_>, entry: &ServiceEntry) {
    let (hosts, endpoints) = (spec.get("hosts"), spec.get("endpoints"));
    let inline = entry.endpoints.len();
    let is_wildcard = |host: &Host| host.wildcard_suffix().is_some();
    if entry.workload_selector.is_some() && endpoints.is_set() {
        endpoints.error("excludes workloadSelector: list the endpoints, or select them");
    }
    match entry.resolution {
        Resolution::None if inline > 0 => {
            endpoints.error("resolution NONE dials the caller's address: drop them, or use STATIC or DNS");
        }
        Resolution::None => {}
        Resolution::Static => check_static(spec, entry),
        Resolution::DnsRoundRobin if inline > 1 => {
            endpoints.error("DNS_ROUND_ROBIN takes at most one endpoint: use DNS for several");
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if inline == 0 && entry.hosts.iter().any(is_wildcard) {
                hosts.error("a wildcard cannot be looked up: name endpoints, or use NONE or DYNAMIC_DNS");
            }
        }
        Resolution::DynamicDns => {
            if !entry.hosts.iter().all(is_wildcard) {
                hosts.error("DYNAMIC_DNS is for wildcard hosts: use DNS for a whole name");
            }
            for field in [spec.get("addresses"), endpoints].iter().filter(|field| field.is_set()) {
                field.error("DYNAMIC_DNS looks every host up: drop this field");
            }
        }
    }
    check_endpoint_ports(&spec.get("endpoints"), entry);
}

/// What hosts and resolution require of the protocols: without a Host header or server name a proxy cannot distinguish
/// hosts.
fn check_ports(spec: &Field<'_>, entry: &ServiceEntry) {
    const NAMED: &[&str] = &["HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "HTTPS", "TLS"];
    const LOOKED_UP: &[&str] = &["HTTP", "HTTP2", "GRPC", "TLS"];
    let among = |field: &Field<'_>, words: &[&str]| {
        field.text().is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)))
    };
    for port in spec.get("ports").list() {
        let protocol = port.get("protocol");
        if entry.resolution == Resolution::DynamicDns && !among(&protocol, LOOKED_UP) {
            protocol.error(format_args!("DYNAMIC_DNS needs one of {}", LOOKED_UP.join(", ")));
        } else if entry.resolution != Resolution::None && entry.hosts.len() > 1 && !among(&protocol, NAMED) {
            protocol.error(format_args!(
                "several hosts can be told apart in {} alone: write an entry for each host, or use resolution NONE",
                NAMED.join(", ")
            ));
        }
    }
}

fn check_addresses(spec: &Field<'_>, entry: &ServiceEntry) {
    let fixed = matches!(entry.resolution, Resolution::None | Resolution::Static);
    for address in spec.get("addresses").list() {
        if !fixed && address.text().is_some_and(|text| text.contains('/')) {
            address.error("a block of addresses is for resolution NONE and STATIC: write a single address");
        }
    }
    for host in spec.get("hosts").list() {
        let within_a_label = |text: &str| text.len() > 1 && text.starts_with('*') && !text.starts_with("*.");
        if entry.resolution != Resolution::DynamicDns && host.text().is_some_and(within_a_label) {
            host.warn("a wildcard within a label matches no request of a proxy: write *.DOMAIN");
        }
    }
    if entry.resolution == Resolution::None && entry.workload_selector.is_some() {
        spec.get("workloadSelector")
            .warn("means nothing with resolution NONE, which dials the caller's address");
    }
}

fn check_static(spec: &Field<'_>, entry: &ServiceEntry) {
    if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        spec.get("resolution").warn("STATIC, but there are no endpoints: nobody answers");
    }
    for (field, endpoint) in spec.get("endpoints").list().iter().zip(&entry.endpoints) {
        let Some(address) = &endpoint.address else { continue };
        if address.parse::<IpAddr>().is_err() {
            let remedy = "is no IP address, which STATIC needs: use DNS";
            field.get("address").error(format_args!("{address:?} {remedy}"));
        }
    }
}

fn check_endpoint_ports(endpoints: &Field<'_>, entry: &ServiceEntry) {
    for (field, endpoint) in endpoints.list().iter().zip(&entry.endpoints) {
        for name in endpoint.ports.keys().filter(|name| !entry.ports.iter().any(|port| port.name == **name)) {
            field
                .get("ports")
                .error(format_args!("{name:?} is no port of this entry: use the names in spec.ports"));
        }
    }
}

fn hosts(field: &Field<'_>) -> Vec<Host> {
    let items = field.list();
    if items.is_empty() {
        field.error("missing: name at least one host");
    }
    let hosts = items.iter().filter_map(|item| {
        let text = item.text()?;
        match (text, host::check_pattern(text)) {
            ("*", _) => item.error("\"*\" is every host: name a suffix, like *.example.org"),
            (_, Err(reason)) => item.error(format_args!("{text:?} is refused: {reason}")),
            _ => {}
        }
        Some(Host::new(text))
    });
    hosts.collect()
}

/// Virtual addresses: single ones, and blocks. `0.0.0.0` and a block of all addresses tell the host from no other one,
/// so they count as none.
fn addresses(field: &Field<'_>) -> (Vec<IpAddr>, Vec<IpNet>) {
    let (mut single, mut blocks) = (Vec::new(), Vec::new());
    for item in field.list() {
        let Some(text) = item.text() else { continue };
        match text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>()) {
            Ok(block) if block.prefix_len() == 0 => {}
            Ok(block) if block.prefix_len() < block.max_prefix_len() => blocks.push(block.trunc()),
            Ok(one) if one.addr().is_unspecified() => {}
            Ok(one) => single.push(one.addr()),
            Err(_) => item.error(format_args!("{text:?} is no IP address and no block like 10.0.0.0/24")),
        }
    }
    (single, blocks)
}

fn ports(field: &Field<'_>) -> Vec<ServicePort> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let ports = field.list().into_iter().filter_map(|entry| {
        entry.knows(&["name", "number", "protocol", "targetPort"]);
        let name = entry.get("name").required("a port needs a name").text().unwrap_or_default();
        let number = entry.get("number").required("a port needs its number").port();
        if entry.get("name").is_set() && !host::is_label(name) {
            entry.get("name").error(format_args!("{name:?} is no port name: use letters, digits and '-'"));
        }
        if !names.insert(name) {
            entry.get("name").error(format_args!("{name:?} stands twice: give each port its own name"));
        }
        if number.is_some_and(|number| !numbers.insert(number)) {
            entry.get("number").error("stands twice: give each port its own number");
        }
        // 0 is unset, as in protobuf.
        let target = entry.get("targetPort").integer(0..=65535).filter(|target: &u16| *target > 0);
        let number = number?;
        Some(ServicePort {
            name: name.into(),
            number,
            protocol: port::of_istio(&entry.get("protocol"))?,
            target: TargetPort::Number(target.unwrap_or(number)),
        })
    });
    ports.collect()
}

fn endpoint(field: &Field<'_>) -> EntryEndpoint {
    field.knows(workload_entry::FIELDS);
    EntryEndpoint {
        address: workload_entry::address(field),
        ports: port::by_name(&field.get("ports")),
        labels: labels::valid(&field.get("labels")),
        service_account: pod::service_account(&field.get("serviceAccount")),
        weight: workload_entry::weight(field),
    }
}

fn selector(field: &Field<'_>) -> Option<Selector> {
    let selector = labels::selector(&field.knows(&["labels"]).get("labels"));
    if field.is_set() && selector.is_empty() {
        field.warn("names no label, so every workload of the namespace is an endpoint");
    }
    field.is_set().then_some(selector)
}
