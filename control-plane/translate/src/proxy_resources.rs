//! The resources that belong to one proxy, and what it gets of those that it shares.

use std::sync::Arc;

use eastwest_engine::settings::WorkloadTls;
use eastwest_xds::{EncodedResource, ResourceSet};

use crate::{
    facts::ProxyFacts,
    outbound::OutboundResources,
    resource::Cache,
    type_builder::{Access, ProxyInputs, TypeBuilder, updated},
};

/// What is made from the settings and facts of one proxy alone. It stays as it is when other hosts change.
#[derive(Debug)]
pub struct ProxyResources {
    /// In the order of the types of [`OutboundResources`].
    types: Vec<ProxyType>,
}

/// One type.
#[derive(Debug)]
pub(crate) struct ProxyType {
    pub(crate) builder: &'static dyn TypeBuilder,
    pub(crate) access: Access,
    /// Empty if the proxy has none, or is not served the type.
    pub(crate) own: Arc<ResourceSet>,
}

impl ProxyResources {
    /// `before`: what they were, so that what stays the same stays shared.
    pub(crate) fn new(
        cache: &mut Cache,
        settings: &WorkloadTls,
        outbound: &OutboundResources,
        facts: ProxyFacts,
        before: Option<&Self>,
    ) -> Self {
        let inputs = ProxyInputs { settings, facts, encoded_settings: outbound.encoded_settings() };
        let types = outbound.types().enumerate().map(|(at, (builder, _))| {
            let access = builder.access(facts);
            let own: Vec<Arc<EncodedResource>> = match access {
                Access::None => Vec::new(),
                Access::AllBut(_) | Access::Own => builder.of_proxy(cache, &inputs),
            };
            let before = before.and_then(|before| before.types.get(at)).map(|before| &before.own);
            ProxyType { builder, access, own: updated(builder, before, own) }
        });
        Self { types: types.collect() }
    }

    /// The types, in the order of those of [`OutboundResources`].
    pub(crate) fn types(&self) -> impl Iterator<Item = &ProxyType> {
        self.types.iter()
    }
}

impl ProxyType {
    /// Whether the proxy gets the shared resource of that name.
    pub(crate) fn shows(&self, name: &str) -> bool {
        match &self.access {
            Access::AllBut(hidden) => hidden.iter().all(|other| other != name),
            Access::Own | Access::None => false,
        }
    }
}
