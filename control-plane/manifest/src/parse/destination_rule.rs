//! DestinationRule (POLICY.md V2).

use std::{collections::BTreeSet, net::IpAddr};

use eastwest_model::{
    Host, MeshConfig, Meta, Name, Object,
    policy::{ClientTlsMode, DestinationRule, Subset},
};

use super::{
    export_to::{self, Allowed},
    host, labels,
    traffic_policy::Rule,
};
use crate::field::Field;

pub(super) fn read(meta: Meta, root: &Field<'_>, mesh: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(&["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"]);
    let selector = spec.get("workloadSelector");
    let rule = Rule { namespace: meta.namespace(), selects: selector.is_set() };
    let workload_selector = rule.selects.then(|| {
        let labels = labels::selector(&selector.knows(&["matchLabels"]).get("matchLabels"));
        if labels.is_empty() {
            selector.warn(
                "names no label, so the rule holds for every client of its namespace, and for no other",
            );
        }
        labels
    });
    let allowed = if rule.selects { Allowed::OwnNamespace } else { Allowed::Namespaces };
    let written_host = read_host(&spec.get("host"));
    let object = DestinationRule {
        host: expand(&written_host, meta.namespace(), &mesh.cluster_domain),
        written_host,
        export_to: export_to::read(&spec.get("exportTo"), meta.namespace(), allowed),
        workload_selector,
        traffic_policy: rule.traffic_policy(&spec.get("trafficPolicy")),
        subsets: subsets(&spec.get("subsets"), rule),
        meta,
    };
    Some(object.into())
}

/// What stands in for a refused rule (POLICY.md V4): all that was read, if every mistake is in a block that decides nothing
/// about TLS, and some block asks for TLS.
pub(super) fn stand_in(rule: &DestinationRule, errors: &[&str]) -> Option<Object> {
    const BLOCKS: [&str; 6] =
        ["loadBalancer", "connectionPool", "outlierDetection", "tunnel", "proxyProtocol", "retryBudget"];
    let step = |part: &str| part.split('[').next().unwrap_or(part).to_owned();
    let is_harmless = |field: &&str| {
        let mut steps = field.split('.').map(step);
        let policy = steps.position(|step| step == "trafficPolicy" || step == "portLevelSettings");
        policy.is_some() && steps.any(|step| BLOCKS.contains(&&*step))
    };
    let asks = rule.tls_blocks().any(|tls| tls.mode != ClientTlsMode::Disable);
    (asks && errors.iter().all(is_harmless)).then(|| rule.clone().into())
}

fn read_host(field: &Field<'_>) -> Name {
    let text = field.required("name the service that the rule is for").text().unwrap_or_default();
    if let (true, Err(reason)) = (field.is_set(), host::check_pattern(text)) {
        field.error(format_args!("{text:?} is refused: {reason}"));
    }
    text.into()
}

/// A name without a dot is a service of the rule's own namespace; anything else is literal (D1).
fn expand(host: &str, namespace: &str, cluster_domain: &str) -> Host {
    if host.contains('.') || host == "*" || host.parse::<IpAddr>().is_ok() {
        Host::new(host)
    } else {
        Host::of_service(host, namespace, cluster_domain)
    }
}

fn subsets(field: &Field<'_>, rule: Rule<'_>) -> Vec<Subset> {
    let mut seen = BTreeSet::new();
    let subsets = field.list().into_iter().map(|entry| {
        entry.knows(&["name", "labels", "trafficPolicy"]);
        let name = entry.get("name");
        let text = name.required("a subset needs a name").text().unwrap_or_default();
        if name.is_set() && !host::is_label(text) {
            name.error(format_args!(
                "{text:?} is no name of a subset: use letters, digits and '-', 1 to 63 bytes"
            ));
        }
        if !seen.insert(text) {
            name.error(format_args!("{text:?} stands twice: give each subset its own name"));
        }
        Subset {
            name: text.into(),
            labels: labels::valid(&entry.get("labels")),
            traffic_policy: rule.traffic_policy(&entry.get("trafficPolicy")),
        }
    });
    subsets.collect()
}
