//! Which objects a resource of a proxy comes from, for people who look at the resource.

use eastwest_engine::{
    settings::{OutboundCluster, OutboundService, WorkloadTls},
    trace::Trace,
};
use eastwest_model::{Kind, ObjectRef, Origin};
use serde::Serialize;

/// An object that a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Source {
    /// `Kind/namespace/name`.
    pub object: ObjectRef,
    /// Where it was read, as far as that is known.
    #[serde(flatten)]
    pub origin: Origin,
}

/// The clusters of a workload's proxy, each with its host.
pub(crate) fn clusters(settings: &WorkloadTls) -> impl Iterator<Item = (&OutboundService, &OutboundCluster)> {
    let services = settings.outbound.services.values();
    services.flat_map(|service| service.clusters.iter().map(|one| (service.as_ref(), one.as_ref())))
}

/// The sources of the cluster or assignment of that name.
pub(crate) fn of_cluster_named(settings: &WorkloadTls, name: &str) -> Vec<Source> {
    match name.strip_prefix("inbound|").and_then(|rest| rest.split('|').next()?.parse().ok()) {
        Some(port) => of_inbound(settings, Some(port)),
        None => clusters(settings).filter(|(_, one)| one.name() == name).flat_map(of_cluster).collect(),
    }
}

/// The rules that decided a cluster, and where its host comes from.
pub(crate) fn of_cluster((service, cluster): (&OutboundService, &OutboundCluster)) -> Vec<Source> {
    let traffic = &cluster.traffic;
    let rules = [
        cluster.policy.as_ref(),
        traffic.load_balancer.as_ref().map(|one| &one.rule),
        traffic.connection_pool.as_ref().map(|one| &one.rule),
        traffic.outlier_detection.as_ref().map(|one| &one.rule),
        traffic.tunnel.as_ref().map(|one| &one.rule),
        traffic.proxy_protocol.as_ref().map(|one| &one.rule),
        traffic.retry_budget.as_ref().map(|one| &one.rule),
    ];
    let rules = rules.into_iter().flatten().map(|rule| source(rule, &cluster.trace));
    rules.chain([source(&service.owner, &cluster.trace)]).collect()
}

/// The policies that decided how the workload is called, at one port or at all, and the workload itself.
pub(crate) fn of_inbound(settings: &WorkloadTls, port: Option<u16>) -> Vec<Source> {
    let inbound = &settings.inbound;
    let ports = inbound.ports.iter().filter(|(number, _)| port.is_none_or(|port| port == **number));
    let of_ports = ports.filter_map(|(_, one)| one.policy.as_ref().map(|policy| source(policy, &one.trace)));
    let of_workload = inbound.policy.as_ref().map(|policy| source(policy, &inbound.trace));
    let workload = &settings.workload;
    let pod = ObjectRef::new(Kind::Pod, workload.namespace.clone(), workload.name.clone());
    let pod = Source { object: pod, origin: Origin::default() };
    of_workload.into_iter().chain(of_ports).chain([pod]).collect()
}

fn source(object: &ObjectRef, trace: &Trace) -> Source {
    let mut steps = trace.steps().filter(|step| step.object.as_ref() == Some(object));
    let origin = steps.find_map(|step| step.origin.clone()).unwrap_or_default();
    Source { object: object.clone(), origin }
}
