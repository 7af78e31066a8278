//! How the resources of one xDS type are made.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
};

use eastwest_engine::settings::{OutboundService, WorkloadTls};
use eastwest_xds::{AbsentResource, EncodedResource, ResourceSet, TypeUrl};

use crate::{facts::ProxyFacts, joint::JointResources, origins::Source, resource::Cache};

/// Makes the resources of one xDS type for the proxies of a role.
///
/// A resource belongs to one host ([`of_host`](Self::of_host)), to several ([`joint`](Self::joint)), to the whole client
/// scope ([`of_scope`](Self::of_scope)), or to one proxy ([`of_proxy`](Self::of_proxy)). A type implements what it has.
pub(crate) trait TypeBuilder: Debug + Sync {
    /// The type.
    fn type_url(&self) -> TypeUrl;

    /// The resources that belong to one host. No two hosts have a resource of the same name.
    fn of_host(&self, _cache: &mut Cache, _service: &OutboundService) -> Vec<Arc<EncodedResource>> {
        Vec::new()
    }

    /// The resources to which several hosts may contribute.
    fn joint(&self) -> Option<Box<dyn JointResources>> {
        None
    }

    /// The resources that each client scope has, whatever its hosts are.
    fn of_scope(&self, _cache: &mut Cache) -> Vec<Arc<EncodedResource>> {
        Vec::new()
    }

    /// The resources of one proxy.
    fn of_proxy(&self, _cache: &mut Cache, _proxy: &ProxyInputs<'_>) -> Vec<Arc<EncodedResource>> {
        Vec::new()
    }

    /// The objects that the resource of that name comes from, in no order, possibly more than once. Empty for one that
    /// comes from the mesh as a whole.
    fn sources(&self, _settings: &WorkloadTls, _name: &str) -> Vec<Source> {
        Vec::new()
    }

    /// What a proxy gets of this type.
    fn access(&self, _facts: ProxyFacts) -> Access {
        Access::AllBut(Vec::new())
    }

    /// Makes the answer for a name that does not exist; without it there is no answer.
    fn absent(&self) -> Option<AbsentResource> {
        None
    }
}

/// What a proxy gets of a type.
#[derive(Debug)]
pub(crate) enum Access {
    /// Its own resources and those of its client scope, but for these names.
    AllBut(Vec<String>),
    /// Its own resources only.
    Own,
    /// The type is not served to it.
    None,
}

/// What the resources of one proxy are made of.
pub(crate) struct ProxyInputs<'a> {
    /// The settings of its workload.
    pub(crate) settings: &'a WorkloadTls,
    /// Facts about the proxy.
    pub(crate) facts: ProxyFacts,
    /// The encoded outbound settings of the client scope: set by the first proxy that needs them, empty after a change.
    pub(crate) encoded_settings: &'a OnceLock<Vec<u8>>,
}

/// The set that follows `before`; the same `Arc` if the content is the same.
pub(crate) fn updated(
    builder: &dyn TypeBuilder,
    before: Option<&Arc<ResourceSet>>,
    resources: Vec<Arc<EncodedResource>>,
) -> Arc<ResourceSet> {
    if let Some(before) = before {
        return before.next(resources);
    }
    let set = ResourceSet::new(builder.type_url(), resources);
    Arc::new(match builder.absent() {
        Some(absent) => set.answering_absent(absent),
        None => set,
    })
}
