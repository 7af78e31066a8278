//! WorkloadEntries, and the inline endpoints of ServiceEntries, which have the same fields.

use std::{net::IpAddr, sync::Arc};

use eastwest_model::{MeshConfig, Meta, Name, Object, Workload};

use super::{host, labels, pod, port};
use crate::field::Field;

/// The fields of a WorkloadEntry.
pub(super) const FIELDS: &[&str] =
    &["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"];

/// Labels of the spec join those of the metadata, which win (POLICY.md A4).
pub(super) fn read(mut meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(FIELDS);
    let mut labels = labels::valid(&spec.get("labels"));
    labels.extend(meta.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    meta.labels = Arc::new(labels);
    let address = address(&spec);
    let ip: Option<IpAddr> = address.as_deref().and_then(|address| address.parse().ok());
    let workload = Workload {
        service_account: pod::service_account(&spec.get("serviceAccount")),
        addresses: ip.into_iter().collect(),
        dns_address: address.filter(|_| ip.is_none()),
        port_overrides: port::by_name(&spec.get("ports")),
        weight: weight(&spec),
        ..Workload::new(meta)
    };
    Some(workload.into())
}

/// The address of an endpoint, an IP address or a host name, as written. In another network it needs none.
pub(super) fn address(entry: &Field<'_>) -> Option<Name> {
    let (field, network) = (entry.get("address"), entry.get("network"));
    let is_given = |field: &Field<'_>| field.text().is_some_and(|text| !text.is_empty());
    if !is_given(&field) && is_given(&network) {
        network.warn(
            "an endpoint of another network without an address is reached through a gateway alone, and gateways are not \
             read: no client reaches it until it has an address",
        );
        return None;
    }
    let remedy = "an endpoint needs an IP address or a host name";
    let text = field.required(remedy).text()?;
    if text.parse::<IpAddr>().is_ok() {
        return Some(text.into());
    }
    if text.starts_with("unix://") {
        field.error(format_args!("{text:?} is a unix socket, which this version does not reach: {remedy}"));
    } else if let Err(reason) = host::check_name(text) {
        field.error(format_args!("{text:?} is refused: {remedy}; {reason}"));
    }
    Some(text.into())
}

/// Load-balancing weight, 0 = unset.
pub(super) fn weight(entry: &Field<'_>) -> u32 {
    entry.get("weight").integer(0..=u32::MAX.into()).unwrap_or(0)
}
