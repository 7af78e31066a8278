//! The resources that all proxies of one role and one client scope share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use eastwest_engine::settings::{Outbound, OutboundService};
use eastwest_model::Host;
use eastwest_xds::{EncodedResource, ResourceSet};

use crate::{
    joint::{Edits, HostChange, JointResources},
    resource::Cache,
    roles::ProxyRole,
    type_builder::{TypeBuilder, updated},
};

/// The resources that come from outbound settings, for proxies of one role.
#[derive(Debug)]
pub struct OutboundResources {
    role: ProxyRole,
    hosts: BTreeMap<Host, HostResources>,
    /// In the order of [`ProxyRole::types`].
    types: Vec<TypeResources>,
    /// See [`ProxyInputs`](crate::type_builder::ProxyInputs).
    encoded_settings: OnceLock<Vec<u8>>,
}

/// The resources of one type.
#[derive(Debug)]
struct TypeResources {
    builder: &'static dyn TypeBuilder,
    joint: Option<Box<dyn JointResources>>,
    set: Arc<ResourceSet>,
}

/// The resources that belong to one host, kept as long as its settings are the same object.
#[derive(Debug, Clone)]
struct HostResources {
    of: Arc<OutboundService>,
    /// In the order of [`ProxyRole::types`].
    by_type: Vec<Vec<Arc<EncodedResource>>>,
}

impl OutboundResources {
    pub(crate) fn new(
        cache: &mut Cache,
        role: ProxyRole,
        outbound: &Outbound,
        before: Option<&Self>,
    ) -> Self {
        let before = before.filter(|before| before.role == role);
        let known = |service| before.and_then(|before| before.host(service));
        let hosts: BTreeMap<_, _> = outbound
            .services
            .values()
            .map(|service| {
                let resources = known(service).unwrap_or_else(|| HostResources::new(cache, role, service));
                (service.host.clone(), resources)
            })
            .collect();
        let types = role.types().iter().enumerate().map(|(at, builder)| {
            let mut joint = builder.joint();
            let of_hosts = hosts.values().flat_map(|host| host.of_type(at)).cloned();
            let mut resources: Vec<_> = of_hosts.chain(builder.of_scope(cache)).collect();
            if let Some(joint) = &mut joint {
                resources.extend(joint.replace(cache, outbound));
            }
            let before = before.and_then(|before| before.types.get(at)).map(|before| &before.set);
            TypeResources { builder: *builder, joint, set: updated(*builder, before, resources) }
        });
        let types = types.collect();
        Self { role, hosts, types, encoded_settings: OnceLock::new() }
    }

    /// Follows settings of which only these hosts differ.
    pub(crate) fn renew(&mut self, cache: &mut Cache, outbound: &Outbound, hosts: &BTreeSet<Host>) {
        let mut before = Vec::new();
        for host in hosts {
            let after =
                outbound.services.get(host).map(|service| HostResources::new(cache, self.role, service));
            before.push(match after {
                Some(after) => self.hosts.insert(host.clone(), after),
                None => self.hosts.remove(host),
            });
        }
        let changes: Vec<_> = hosts
            .iter()
            .zip(&before)
            .map(|(host, before)| HostChange {
                host,
                before: before.as_ref().map(|before| &*before.of),
                after: self.hosts.get(host).map(|after| &*after.of),
            })
            .collect();
        for (at, one) in self.types.iter_mut().enumerate() {
            let mut edits = Edits::new();
            let gone = before.iter().flatten().flat_map(|host| host.of_type(at));
            edits.extend(gone.map(|resource| (Arc::clone(resource.name()), None)));
            let there =
                hosts.iter().filter_map(|host| self.hosts.get(host)).flat_map(|host| host.of_type(at));
            edits.extend(there.map(|resource| (Arc::clone(resource.name()), Some(Arc::clone(resource)))));
            if let Some(joint) = &mut one.joint {
                edits.extend(joint.update(cache, outbound, &changes));
            }
            one.set = one.set.edited(edits);
        }
        self.encoded_settings = OnceLock::new();
    }

    /// The types of resources with the set of each.
    pub(crate) fn types(&self) -> impl Iterator<Item = (&'static dyn TypeBuilder, &Arc<ResourceSet>)> {
        self.types.iter().map(|one| (one.builder, &one.set))
    }

    /// See [`ProxyInputs`](crate::type_builder::ProxyInputs).
    pub(crate) fn encoded_settings(&self) -> &OnceLock<Vec<u8>> {
        &self.encoded_settings
    }

    /// The resources of a host, if its settings are still the same.
    fn host(&self, service: &Arc<OutboundService>) -> Option<HostResources> {
        self.hosts.get(&service.host).filter(|known| Arc::ptr_eq(&known.of, service)).cloned()
    }
}

impl HostResources {
    fn new(cache: &mut Cache, role: ProxyRole, service: &Arc<OutboundService>) -> Self {
        let by_type = role.types().iter().map(|builder| builder.of_host(cache, service)).collect();
        Self { of: Arc::clone(service), by_type }
    }

    fn of_type(&self, at: usize) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.by_type.get(at).into_iter().flatten()
    }
}
