//! How the index stores the objects of each kind, and which settings they may decide.
//!
//! [`Namespace`] is the table of all kinds that belong to a namespace; [`Stored`] is what differs between them. The
//! settings are named before and after a change; together they are the dirty set. Endpoints, workloads and Services
//! are answered from indexes. Only a rule with a wildcard looks at every host of the mesh, and a policy at every host
//! of its namespace.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use eastwest_model::{
    Credential, CredentialRef, Host, Kind, Meta, Name, Object, ObjectRef, Selector, Workload,
    credential::TRUST_SUFFIX,
    policy::{
        AuthorizationPolicy, DestinationRule, MutualTlsMode, PeerAuthentication, RequestAuthentication,
    },
    service::{EndpointSlice, Service, ServiceEntry, Sidecar},
};

use super::{
    DirtySet, Snapshot,
    objects::{Objects, Store},
    rules::Rules,
    selecting::{Selecting, Selects},
    slices::Slices,
    workloads::Workloads,
};

/// An object that the index stores.
pub(super) trait Stored {
    /// The settings that the object may decide in this snapshot, which need not hold it. Too many are allowed, too few
    /// are not.
    fn affected(&self, snapshot: &Snapshot) -> DirtySet;

    /// The hosts that the object describes, and the addresses that it has.
    fn claims(&self, _snapshot: &Snapshot) -> Vec<Claim> {
        Vec::new()
    }

    /// Whether the object differs from `other` only in what no setting depends on.
    fn decides_same_as(&self, _other: &Self) -> bool {
        false
    }

    /// Whether the settings of clients are the same with the object as with `other`, which it replaces: only how servers
    /// take their calls may differ.
    fn is_same_for_clients(&self, _other: &Self) -> bool {
        false
    }
}

/// A host that an object describes, or an address that it has.
pub(super) enum Claim {
    /// The object owns the host, perhaps with others.
    Owner(Host),
    /// The object is an alias of the host (POLICY.md O1).
    AliasOf(Host),
    /// The object has the cluster IP.
    Address(IpAddr),
    /// The object claims addresses of others, perhaps of Services.
    Addresses,
}

/// Defines [`Namespace`]. Each line: the field and its type; the variant of [`Object`] with the kinds that it holds.
macro_rules! namespace {
    ($($(#[$doc:meta])* $field:ident: $store:ty => $variant:ident($($kind:ident)|+),)*) => {
        /// The objects of one namespace, each type shared by itself.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Namespace {
            $($(#[$doc])* pub $field: Arc<$store>,)*
        }

        impl Namespace {
            /// It holds no object.
            pub(super) fn is_empty(&self) -> bool {
                $(Store::is_empty(&*self.$field))&&*
            }

            /// The object of that kind and name.
            pub(super) fn get(&self, reference: &ObjectRef) -> Option<Object> {
                match reference.kind {
                    $($(Kind::$kind)|+ => {
                        Store::get(&*self.$field, reference).cloned().map(Object::$variant)
                    })*
                    _ => None,
                }
            }

            /// Adds an object, in the place of one of that kind and name.
            pub(super) fn insert(&mut self, object: Object) {
                match object {
                    $(Object::$variant(new) => {
                        Store::insert(Arc::make_mut(&mut self.$field), &new.meta.object.clone(), new);
                    })*
                    Object::Namespace(_) | Object::MeshConfig(..) => {}
                }
            }

            /// Removes the object of that kind and name.
            pub(super) fn remove(&mut self, reference: &ObjectRef) {
                match reference.kind {
                    $($(Kind::$kind)|+ => Store::remove(Arc::make_mut(&mut self.$field), reference),)*
                    _ => {}
                }
            }
        }

        /// See [`Stored::affected`].
        pub(super) fn affected(snapshot: &Snapshot, object: &Object) -> DirtySet {
            match object {
                $(Object::$variant(object) => object.affected(snapshot),)*
                Object::Namespace(_) => DirtySet::default(),
                Object::MeshConfig(..) => DirtySet::everything(),
            }
        }

        /// See [`Stored::claims`].
        pub(super) fn claims(snapshot: &Snapshot, object: &Object) -> Vec<Claim> {
            match object {
                $(Object::$variant(object) => object.claims(snapshot),)*
                Object::Namespace(_) | Object::MeshConfig(..) => Vec::new(),
            }
        }

        /// See [`Stored::decides_same_as`].
        pub(super) fn decide_the_same(one: &Object, other: &Object) -> bool {
            match (one, other) {
                $((Object::$variant(one), Object::$variant(other)) => one.decides_same_as(other),)*
                _ => false,
            }
        }

        /// See [`Stored::is_same_for_clients`].
        pub(super) fn are_same_for_clients(one: &Object, other: &Object) -> bool {
            match (one, other) {
                $((Object::$variant(one), Object::$variant(other)) => one.is_same_for_clients(other),)*
                _ => false,
            }
        }
    };
}

namespace! {
    services: Selecting<Service> => Service(Service),
    slices: Slices => EndpointSlice(EndpointSlice | Endpoints),
    workloads: Workloads => Workload(
        Pod | WorkloadEntry | Deployment | StatefulSet | DaemonSet | ReplicaSet | Job | CronJob
    ),
    service_entries: Selecting<ServiceEntry> => ServiceEntry(ServiceEntry),
    sidecars: Objects<Sidecar> => Sidecar(Sidecar),
    peer_authentications: Objects<PeerAuthentication> => PeerAuthentication(PeerAuthentication),
    authorization_policies: Objects<AuthorizationPolicy> => AuthorizationPolicy(AuthorizationPolicy),
    request_authentications: Objects<RequestAuthentication> => RequestAuthentication(RequestAuthentication),
    destination_rules: Rules => DestinationRule(DestinationRule),
    credentials: Objects<Credential> => Credential(Secret | ConfigMap),
}

impl Stored for Service {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        dirty.add_host(snapshot.host_of(&self.meta.object));
        dirty.add_hosts(snapshot.alias_chain(self));
        dirty.add_hosts(snapshot.hosts_spelling(self));
        dirty.add_hosts(snapshot.hosts_at(&addresses_of(snapshot, self)));
        dirty.merge(affected_by_authorizers(snapshot, [&snapshot.host_of(&self.meta.object)]));
        let space = snapshot.namespace(self.meta.namespace());
        match self.selector() {
            Some(selector) => space.workloads.selected(selector).for_each(|one| dirty.add_inbound(one)),
            None => {
                for slice in space.slices.all_of_service(self.meta.name()) {
                    workloads_of(space, slice).iter().for_each(|one| dirty.add_inbound(one));
                }
            }
        }
        dirty
    }

    /// O1: an ExternalName Service owns no host.
    fn claims(&self, snapshot: &Snapshot) -> Vec<Claim> {
        let host = || snapshot.host_of(&self.meta.object);
        let named = self.external_name.clone().map_or_else(|| Claim::Owner(host()), Claim::AliasOf);
        self.cluster_ips.iter().map(|address| Claim::Address(address.to_canonical())).chain([named]).collect()
    }
}

/// D12: the addresses that a Service has: its cluster IPs, and those of the Pods behind a headless one.
fn addresses_of(snapshot: &Snapshot, service: &Service) -> BTreeSet<IpAddr> {
    let space = snapshot.namespace(service.meta.namespace());
    let selector = service.selector().filter(|_| service.headless);
    let selected = selector.into_iter().flat_map(|selector| space.workloads.selected(selector));
    let slices = space.slices.all_of_service(service.meta.name()).filter(|_| service.headless);
    let listed = slices.flat_map(|slice| addresses_in(space, slice));
    let pods = selected.flat_map(|one| one.addresses.iter().copied());
    let all = service.cluster_ips.iter().copied().chain(pods).chain(listed);
    all.map(|one| one.to_canonical()).collect()
}

impl Stored for EndpointSlice {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        dirty.add_host(Host::of_service(&self.service, self.meta.namespace(), &snapshot.mesh.cluster_domain));
        let space = snapshot.namespace(self.meta.namespace());
        if space.services.get(&self.service).is_some_and(|service| service.headless) {
            let addresses = addresses_in(space, self).into_iter().map(|one| one.to_canonical()).collect();
            dirty.add_hosts(snapshot.hosts_at(&addresses));
        }
        if space.services.get(&self.service).is_some_and(|service| service.selector().is_none()) {
            workloads_of(space, self).iter().for_each(|one| dirty.add_inbound(one));
        }
        dirty
    }
}

/// The addresses that a slice lists, and those of the Pods that it names.
fn addresses_in(space: &Namespace, slice: &EndpointSlice) -> Vec<IpAddr> {
    let listed = slice.endpoints.iter().flat_map(|one| one.addresses.iter().copied());
    let behind = workloads_of(space, slice);
    listed.chain(behind.into_iter().flat_map(|one| one.addresses.iter().copied())).collect()
}

/// AUTHORIZATION.md Z11: a CUSTOM policy denies until the Service of its authorizer is known.
fn affected_by_authorizers<'h>(snapshot: &Snapshot, hosts: impl IntoIterator<Item = &'h Host>) -> DirtySet {
    let authorizers = &snapshot.mesh.authorizers;
    let mut dirty = DirtySet::default();
    if hosts.into_iter().any(|host| authorizers.iter().any(|one| one.host() == *host)) {
        dirty.add_inbound_everywhere();
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

impl Stored for Workload {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        dirty.add_inbound(self);
        dirty.add_client(self);
        dirty.add_hosts(hosts_served_by(snapshot, self));
        let addresses = self.addresses.iter().map(|one| one.to_canonical()).collect();
        dirty.add_hosts(snapshot.hosts_at(&addresses));
        // A Pod and a WorkloadEntry of one name: when the one comes or goes, the name means the other one.
        let Meta { object: ObjectRef { kind, namespace, name }, .. } = &self.meta;
        let sibling = if *kind == Kind::Pod { Kind::WorkloadEntry } else { Kind::Pod };
        if let Some(sibling) = snapshot.namespace(namespace).workloads.of_kind(sibling, name) {
            dirty.add_hosts(hosts_served_by(snapshot, sibling));
        }
        dirty
    }

    /// Nothing is computed from the node of a Pod.
    fn decides_same_as(&self, other: &Self) -> bool {
        self.differs_only_in_placement(other)
    }
}

/// The hosts that may have the workload behind them.
fn hosts_served_by(snapshot: &Snapshot, workload: &Workload) -> Vec<Host> {
    let namespace = workload.meta.namespace();
    let space = snapshot.namespace(namespace);
    let host = |service: &Name| Host::of_service(service, namespace, &snapshot.mesh.cluster_domain);
    let labels = &workload.meta.labels;
    let services = space.services.selecting(labels).map(|service| host(service.meta.name()));
    let entries = space.service_entries.selecting(labels).flat_map(|entry| entry.hosts.iter().cloned());
    let named = space.slices.of_pod(workload.meta.name()).map(|slice| host(&slice.service));
    let addresses = workload.addresses.iter().flat_map(|address| space.slices.of_address(*address));
    services.chain(entries).chain(named).chain(addresses.map(|slice| host(&slice.service))).collect()
}

impl Stored for ServiceEntry {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        dirty.add_hosts(self.hosts.iter().cloned());
        dirty.merge(affected_by_authorizers(snapshot, &self.hosts));
        if let Some(selector) = self.selector() {
            let space = snapshot.namespace(self.meta.namespace());
            space.workloads.selected(selector).for_each(|one| dirty.add_inbound(one));
        }
        dirty
    }

    fn claims(&self, snapshot: &Snapshot) -> Vec<Claim> {
        let addresses = snapshot.claims_addresses(self).then_some(Claim::Addresses);
        self.hosts.iter().cloned().map(Claim::Owner).chain(addresses).collect()
    }
}

impl Stored for Sidecar {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        if *self.meta.namespace() == snapshot.mesh.root_namespace {
            dirty.add_inbound_everywhere();
            dirty.add_clients_everywhere();
        } else {
            dirty.add_inbound_namespace(self.meta.namespace());
            dirty.add_clients_of(self.meta.namespace());
            // What its ingress lists is what callers meet.
            dirty.add_hosts(snapshot.hosts_of_namespace(self.meta.namespace()));
        }
        dirty
    }
}

impl Stored for PeerAuthentication {
    /// A policy of the root namespace counts everywhere, any other one in its own namespace: for the mode of its
    /// workloads, for auto mutual TLS of its hosts (POLICY.md A2) and for the marks of their endpoints (A4).
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        let namespace = self.meta.namespace();
        if *namespace == snapshot.mesh.root_namespace {
            dirty.add_inbound_everywhere();
            dirty.add_all_hosts();
            return dirty;
        }
        if self.selector.is_empty() {
            dirty.add_inbound_namespace(namespace);
        } else {
            let space = snapshot.namespace(namespace);
            space.workloads.selected(&self.selector).for_each(|one| dirty.add_inbound(one));
        }
        dirty.add_hosts(snapshot.hosts_of_namespace(namespace));
        dirty
    }

    /// Clients ask whether a mode is DISABLE (A2, A4), and of which policy it is, which UNSET leaves to another one.
    fn is_same_for_clients(&self, other: &Self) -> bool {
        let accept = |one: Option<MutualTlsMode>, other: Option<MutualTlsMode>| {
            let disable = Some(MutualTlsMode::Disable);
            one != disable && other != disable && one.is_some() == other.is_some()
        };
        let mut ports = self.ports.iter().zip(&other.ports);
        self.meta.age_key() == other.meta.age_key()
            && self.selector == other.selector
            && accept(self.mode, other.mode)
            && self.ports.len() == other.ports.len()
            && ports.all(|((port, one), (same, other))| port == same && accept(*one, *other))
    }
}

impl Stored for AuthorizationPolicy {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        affected_by_access(snapshot, &self.meta, &self.selector)
    }
}

impl Stored for RequestAuthentication {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        affected_by_access(snapshot, &self.meta, &self.selector)
    }
}

/// AUTHORIZATION.md Z1, Z2: a policy of access concerns the workloads that it selects, in its namespace or from the root
/// namespace everywhere. Callers do not see it.
fn affected_by_access(snapshot: &Snapshot, meta: &Meta, selector: &Selector) -> DirtySet {
    let mut dirty = DirtySet::default();
    let namespace = meta.namespace();
    match (*namespace == snapshot.mesh.root_namespace, selector.is_empty()) {
        (true, true) => dirty.add_inbound_everywhere(),
        (false, true) => dirty.add_inbound_namespace(namespace),
        (true, false) => {
            let spaces = snapshot.namespaces.values();
            spaces
                .flat_map(|space| space.workloads.selected(selector))
                .for_each(|one| dirty.add_inbound(one));
        }
        (false, false) => {
            let space = snapshot.namespace(namespace);
            space.workloads.selected(selector).for_each(|one| dirty.add_inbound(one));
        }
    }
    dirty
}

impl Stored for DestinationRule {
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let mut dirty = DirtySet::default();
        if self.host.wildcard_suffix().is_some() {
            dirty.add_hosts(snapshot.hosts().filter(|host| self.host.covers(host)).cloned());
        } else {
            dirty.add_host(self.host.clone());
            dirty.add_hosts(hosts_misnamed_by(snapshot, &self.host));
        }
        if self.workload_selector.is_some() {
            dirty.add_clients_of(self.meta.namespace());
        }
        dirty
    }
}

/// Hosts in whose traces a rule for `host` stands although it misses them: partial names (D1) and aliases (O1).
fn hosts_misnamed_by(snapshot: &Snapshot, host: &Host) -> Vec<Host> {
    let domain = &snapshot.mesh.cluster_domain;
    let partial = [format!("{host}.svc.{domain}"), format!("{host}.{domain}")].map(|full| Host::new(&full));
    let alias = snapshot.service_of(host).map(|service| snapshot.alias_chain(service));
    partial.into_iter().chain(alias.into_iter().flatten()).collect()
}

impl Stored for Credential {
    /// A credential matters to the hosts of the rules that name it, itself or as the trust bundle of another one. A
    /// reference names its namespace, so the rule may be of any.
    fn affected(&self, snapshot: &Snapshot) -> DirtySet {
        let own = &self.meta.object;
        let stem = own.name.strip_suffix(TRUST_SUFFIX);
        let names_it = |rule: &DestinationRule| {
            let names = rule.tls_blocks().filter_map(|tls| tls.credential_name.as_deref());
            let mut references = names.filter_map(|name| CredentialRef::parse(name, rule.meta.namespace()));
            references.any(|reference| {
                let named = &reference.object;
                named.kind == own.kind
                    && named.namespace == own.namespace
                    && (named.name == own.name || stem == Some(&*named.name))
            })
        };
        let rules = snapshot.namespaces.values().flat_map(|space| space.destination_rules.values());
        let mut dirty = DirtySet::default();
        rules.filter(|rule| names_it(rule)).for_each(|rule| dirty.merge(rule.affected(snapshot)));
        dirty
    }
}
