//! What an object has a say in: asked before and after a change, the answers add up to the dirty set.
//!
//! Endpoints, workloads and Services are answered from indexes. Only a rule with a wildcard looks at every host of the
//! mesh, and a policy at every host of its namespace.

use std::sync::Arc;

use eastwest_model::{
    Credential, CredentialRef, Host, Kind, Meta, Name, Object, ObjectRef, Workload,
    credential::TRUST_SUFFIX,
    policy::{DestinationRule, PeerAuthentication},
    service::{EndpointSlice, Service, ServiceEntry, Sidecar},
};

use super::{DirtySet, Namespace, Snapshot, selecting::Selects};

/// The settings that the object may decide in this world.
pub(super) fn affected(world: &Snapshot, object: &Object) -> DirtySet {
    match object {
        Object::Namespace(_) => DirtySet::default(),
        Object::MeshConfig(..) => DirtySet::everything(),
        Object::Service(service) => of_service(world, service),
        Object::EndpointSlice(slice) => of_slice(world, slice),
        Object::Workload(workload) => of_workload(world, workload),
        Object::ServiceEntry(entry) => of_entry(world, entry),
        Object::Sidecar(sidecar) => of_sidecar(world, sidecar),
        Object::PeerAuthentication(policy) => of_policy(world, policy),
        Object::DestinationRule(rule) => of_rule(world, rule),
        Object::Credential(credential) => of_credential(world, credential),
    }
}

fn of_service(world: &Snapshot, service: &Service) -> DirtySet {
    let mut dirty = DirtySet::default();
    dirty.add_host(world.host_of(&service.meta.object));
    dirty.add_hosts(world.alias_chain(service));
    let space = world.namespace(service.meta.namespace());
    match service.selector() {
        Some(selector) => space.workloads.selected(selector).for_each(|one| dirty.add_inbound(one)),
        None => {
            for slice in space.slices.of_service(service.meta.name()) {
                workloads_of(space, slice).iter().for_each(|one| dirty.add_inbound(one));
            }
        }
    }
    dirty
}

fn of_slice(world: &Snapshot, slice: &EndpointSlice) -> DirtySet {
    let mut dirty = DirtySet::default();
    dirty.add_host(Host::of_service(&slice.service, slice.meta.namespace(), &world.mesh.cluster_domain));
    let space = world.namespace(slice.meta.namespace());
    if space.services.get(&slice.service).is_some_and(|service| service.selector().is_none()) {
        workloads_of(space, slice).iter().for_each(|one| dirty.add_inbound(one));
    }
    dirty
}

fn workloads_of<'a>(space: &'a Namespace, slice: &EndpointSlice) -> Vec<&'a Arc<Workload>> {
    let endpoints = slice.endpoints.iter();
    endpoints
        .flat_map(|endpoint| {
            let by_address = endpoint.addresses.iter().flat_map(|one| space.workloads.at_address(*one));
            endpoint.pod.iter().filter_map(|pod| space.workloads.pod(pod)).chain(by_address)
        })
        .collect()
}

fn of_workload(world: &Snapshot, workload: &Workload) -> DirtySet {
    let mut dirty = DirtySet::default();
    dirty.add_inbound(workload);
    dirty.add_client(workload);
    dirty.add_hosts(behind(world, workload));
    // A Pod and a WorkloadEntry of one name: when the one comes or goes, the name means the other one.
    let Meta { object: ObjectRef { kind, namespace, name }, .. } = &workload.meta;
    let sibling = if *kind == Kind::Pod { Kind::WorkloadEntry } else { Kind::Pod };
    if let Some(sibling) = world.namespace(namespace).workloads.of_kind(sibling, name) {
        dirty.add_hosts(behind(world, sibling));
    }
    dirty
}

/// The hosts that may have the workload behind them.
fn behind(world: &Snapshot, workload: &Workload) -> Vec<Host> {
    let namespace = workload.meta.namespace();
    let space = world.namespace(namespace);
    let host = |service: &Name| Host::of_service(service, namespace, &world.mesh.cluster_domain);
    let labels = &workload.meta.labels;
    let services = space.services.selecting(labels).map(|service| host(service.meta.name()));
    let entries = space.service_entries.selecting(labels).flat_map(|entry| entry.hosts.iter().cloned());
    let named = space.slices.of_pod(workload.meta.name()).map(|slice| host(&slice.service));
    let addresses = workload.addresses.iter().flat_map(|address| space.slices.of_address(*address));
    services.chain(entries).chain(named).chain(addresses.map(|slice| host(&slice.service))).collect()
}

fn of_entry(world: &Snapshot, entry: &ServiceEntry) -> DirtySet {
    let mut dirty = DirtySet::default();
    dirty.add_hosts(entry.hosts.iter().cloned());
    if let Some(selector) = entry.selector() {
        let space = world.namespace(entry.meta.namespace());
        space.workloads.selected(selector).for_each(|one| dirty.add_inbound(one));
    }
    dirty
}

fn of_sidecar(world: &Snapshot, sidecar: &Sidecar) -> DirtySet {
    let mut dirty = DirtySet::default();
    if *sidecar.meta.namespace() == world.mesh.root_namespace {
        dirty.add_inbound_everywhere();
        dirty.add_clients_everywhere();
    } else {
        dirty.add_inbound_namespace(sidecar.meta.namespace());
        dirty.add_clients_of(sidecar.meta.namespace());
        // What its ingress lists is what callers meet.
        dirty.add_hosts(world.hosts_of_namespace(sidecar.meta.namespace()));
    }
    dirty
}

/// A policy of the root namespace has a say everywhere, any other one in its own namespace: in the mode of its
/// workloads, in auto mutual TLS of its hosts (POLICY.md A2) and in the marks of their endpoints (A4).
fn of_policy(world: &Snapshot, policy: &PeerAuthentication) -> DirtySet {
    let mut dirty = DirtySet::default();
    let namespace = policy.meta.namespace();
    if *namespace == world.mesh.root_namespace {
        dirty.add_inbound_everywhere();
        dirty.add_all_hosts();
        return dirty;
    }
    if policy.selector.is_empty() {
        dirty.add_inbound_namespace(namespace);
    } else {
        let space = world.namespace(namespace);
        space.workloads.selected(&policy.selector).for_each(|one| dirty.add_inbound(one));
    }
    dirty.add_hosts(world.hosts_of_namespace(namespace));
    dirty
}

fn of_rule(world: &Snapshot, rule: &DestinationRule) -> DirtySet {
    let mut dirty = DirtySet::default();
    if rule.host.wildcard_suffix().is_some() {
        dirty.add_hosts(world.hosts().filter(|host| rule.host.covers(host)).cloned());
    } else {
        dirty.add_host(rule.host.clone());
        dirty.add_hosts(near(world, &rule.host));
    }
    if rule.workload_selector.is_some() {
        dirty.add_clients_of(rule.meta.namespace());
    }
    dirty
}

/// Hosts in whose traces a rule for `host` stands although it misses them: partial names (D1) and aliases (O1).
fn near(world: &Snapshot, host: &Host) -> Vec<Host> {
    let domain = &world.mesh.cluster_domain;
    let partial = [format!("{host}.svc.{domain}"), format!("{host}.{domain}")].map(|full| Host::new(&full));
    let alias = world.service_of(host).map(|service| world.alias_chain(service));
    partial.into_iter().chain(alias.into_iter().flatten()).collect()
}

/// A credential matters to the hosts of the rules that name it, itself or as the trust bundle of another one.
fn of_credential(world: &Snapshot, credential: &Credential) -> DirtySet {
    let own = &credential.meta.object;
    let namespace = credential.meta.namespace();
    let stem = own.name.strip_suffix(TRUST_SUFFIX);
    let names_it = |rule: &DestinationRule| {
        let names = rule.tls_blocks().filter_map(|tls| tls.credential_name.as_deref());
        names.filter_map(|name| CredentialRef::parse(name, namespace)).any(|reference| {
            let named = &reference.object;
            named.kind == own.kind
                && named.namespace == own.namespace
                && (named.name == own.name || stem == Some(&*named.name))
        })
    };
    let rules = world.namespace(namespace).destination_rules.values();
    let mut dirty = DirtySet::default();
    rules.filter(|rule| names_it(rule)).for_each(|rule| dirty.merge(of_rule(world, rule)));
    dirty
}
