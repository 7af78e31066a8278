//! Pods, and the objects that hold a template of Pods.

use std::{net::IpAddr, sync::Arc};

use eastwest_model::{
    Kind, Labels, MeshConfig, Meta, Object, Workload,
    names::is_dns_subdomain,
    workload::{ContainerPort, ProxyCertificate, Replicas},
};

use super::{metadata, port};
use crate::field::Field;

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let (spec, status) = (root.get("spec"), root.get("status"));
    let phase = status.get("phase").text();
    let account = service_account(&spec.get("serviceAccountName")).unwrap_or_else(|| "default".into());
    let workload = Workload {
        service_account: Some(account),
        addresses: addresses(&status),
        container_ports: container_ports(&spec),
        sidecar: has_sidecar(&spec),
        redirects_one_family: redirects_one_family(&spec),
        // A Pod that is being deleted takes no new work, whatever its condition still says.
        ready: is_ready(&status, phase) && !root.get("metadata").get("deletionTimestamp").is_set(),
        ended: matches!(phase, Some("Succeeded" | "Failed")),
        uid: root.get("metadata").get("uid").name(),
        node: spec.get("nodeName").name(),
        client_certificate: client_certificate(&spec),
        ..Workload::new(meta)
    };
    Some(workload.into())
}

/// A Deployment and its like: a workload without an address, which stands for the Pods that a cluster would make of it.
/// There is none if nobody would make any: what another object owns, what is scaled to 0, what has ended.
pub(super) fn template(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let (spec, status) = (root.get("spec"), root.get("status"));
    let spec = if meta.object.kind == Kind::CronJob { spec.get("jobTemplate").get("spec") } else { spec };
    let is_owned = !root.get("metadata").get("ownerReferences").list().is_empty();
    let template = spec.get("template");
    if is_owned || status.get("completionTime").is_set() || !template.is_set() {
        return None;
    }
    let count = spec.get("replicas").integer::<u32>(0..=u64::from(u32::MAX));
    if count == Some(0) {
        return None;
    }
    let replicas = (meta.object.kind == Kind::StatefulSet).then(|| Replicas {
        service: spec.get("serviceName").name(),
        first: spec.get("ordinals").get("start").integer(0..=u64::from(u32::MAX)).unwrap_or(0),
        count: count.unwrap_or(1),
    });
    let labels = metadata::texts(&template.get("metadata").get("labels"));
    let spec = template.get("spec");
    let injection = injection(&template, &labels);
    let account = service_account(&spec.get("serviceAccountName")).unwrap_or_else(|| "default".into());
    let workload = Workload {
        service_account: Some(account),
        container_ports: container_ports(&spec),
        sidecar: injection == Some(true) || has_sidecar(&spec),
        injection,
        client_certificate: client_certificate(&spec),
        replicas,
        ..Workload::new(Meta { labels: Arc::new(labels), ..meta })
    };
    Some(workload.into())
}

/// What a template says of the injection of a sidecar: its label goes before its annotation, and Pods in the network of
/// their node never get one.
fn injection(template: &Field<'_>, labels: &Labels) -> Option<bool> {
    const INJECT: &str = "sidecar.istio.io/inject";
    if template.get("spec").get("hostNetwork").flag() == Some(true) {
        return Some(false);
    }
    let decide = |texts: &Labels| match texts.get(INJECT).map(|text| &**text) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let annotations = || metadata::texts(&template.get("metadata").get("annotations"));
    let revision = || labels.get("istio.io/rev").map(|_| true);
    decide(labels).or_else(|| decide(&annotations())).or_else(revision)
}

/// A container `istio-proxy`, be it a native sidecar among the init containers.
fn has_sidecar(spec: &Field<'_>) -> bool {
    let native = spec.get("initContainers").list().into_iter().filter(is_lasting);
    let mut containers = spec.get("containers").list().into_iter().chain(native);
    containers.any(|one| one.get("name").text() == Some("istio-proxy"))
}

/// What Istio's injector leaves: `istio-init` or `istio-validation` beside `istio-proxy`. Without `ISTIO_DUAL_STACK` they
/// redirect connections of one family.
fn redirects_one_family(spec: &Field<'_>) -> bool {
    let named =
        |one: &Field<'_>, names: &[&str]| one.get("name").text().is_some_and(|name| names.contains(&name));
    let first = spec.get("initContainers").list();
    let all: Vec<_> = first.iter().cloned().chain(spec.get("containers").list()).collect();
    let dual = all.iter().filter(|one| named(one, &["istio-init", "istio-proxy"])).any(|one| {
        let is_it = |one: &Field<'_>| {
            one.get("name").text() == Some("ISTIO_DUAL_STACK") && one.get("value").text() == Some("true")
        };
        one.get("env").list().iter().any(is_it)
    });
    first.iter().any(|one| named(one, &["istio-init", "istio-validation"])) && !dual
}

/// Init containers that keep running are native sidecars.
fn is_lasting(container: &Field<'_>) -> bool {
    container.get("restartPolicy").text() == Some("Always")
}

/// What the injected proxy will tell about its certificate (POLICY.md O9): variables `ISTIO_META_…` of the container
/// `istio-proxy` become its metadata.
fn client_certificate(spec: &Field<'_>) -> Option<ProxyCertificate> {
    let containers = spec.get("containers").list().into_iter().chain(spec.get("initContainers").list());
    let proxy = containers.into_iter().find(|one| one.get("name").text() == Some("istio-proxy"))?;
    let variables = proxy.get("env").list();
    ProxyCertificate::read(|key| {
        let is_it = |one: &&Field<'_>| {
            one.get("name").text().and_then(|name| name.strip_prefix("ISTIO_META_")) == Some(key)
        };
        variables.iter().find(is_it)?.get("value").name()
    })
}

/// The name of a service account; it becomes part of an identity, so nothing else may stand there.
pub(super) fn service_account(field: &Field<'_>) -> Option<eastwest_model::Name> {
    let name = field.name()?;
    if !is_dns_subdomain(&name) {
        field.error(format_args!(
            "{name:?} is no service account: use a-z, 0-9, '-' and '.', at most 253 bytes"
        ));
    }
    Some(name)
}

/// `podIPs`, or the older `podIP`.
fn addresses(status: &Field<'_>) -> Vec<IpAddr> {
    let list: Vec<_> = status.get("podIPs").list().iter().map(|entry| entry.get("ip")).collect();
    let fields = if list.is_empty() { vec![status.get("podIP")] } else { list };
    let given = fields.iter().filter(|field| !matches!(field.text(), None | Some("")));
    given.filter_map(|field| field.parse(str::parse)).collect()
}

/// Condition `Ready`. Only a manifest written by hand lacks it; such a Pod is ready unless its phase says otherwise.
fn is_ready(status: &Field<'_>, phase: Option<&str>) -> bool {
    let conditions = status.get("conditions").list();
    let ready = conditions.iter().find(|condition| condition.get("type").text() == Some("Ready"));
    match ready {
        Some(condition) => condition.get("status").text() == Some("True"),
        None => matches!(phase, None | Some("Running")),
    }
}

/// TCP ports of the containers, and of init containers that keep running (native sidecars).
fn container_ports(spec: &Field<'_>) -> Vec<ContainerPort> {
    let lasting = spec.get("initContainers").list().into_iter().filter(is_lasting);
    let containers = spec.get("containers").list().into_iter().chain(lasting);
    let ports = containers.flat_map(|container| container.get("ports").list());
    ports
        .filter(port::is_tcp)
        .filter_map(|field| {
            let port = field.get("containerPort").required("a container port needs its number").port()?;
            Some(ContainerPort { name: field.get("name").name(), port })
        })
        .collect()
}
