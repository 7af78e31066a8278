//! Everything in one namespace.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    Credential, Kind, Name,
    policy::PeerAuthentication,
    service::{Service, ServiceEntry, Sidecar},
};

use super::{rules::Rules, selecting::Selecting, slices::Slices, workloads::Workloads};

/// The objects of one namespace, each kind shared by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    pub services: Arc<Selecting<Service>>,
    pub slices: Arc<Slices>,
    pub workloads: Arc<Workloads>,
    pub service_entries: Arc<Selecting<ServiceEntry>>,
    pub sidecars: Arc<BTreeMap<Name, Arc<Sidecar>>>,
    pub peer_authentications: Arc<BTreeMap<Name, Arc<PeerAuthentication>>>,
    pub destination_rules: Arc<Rules>,
    /// Secrets and ConfigMaps.
    pub credentials: Arc<BTreeMap<(Kind, Name), Arc<Credential>>>,
}

impl Namespace {
    /// Nothing is in it any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.slices.is_empty()
            && self.workloads.is_empty()
            && self.service_entries.is_empty()
            && self.sidecars.is_empty()
            && self.peer_authentications.is_empty()
            && self.destination_rules.is_empty()
            && self.credentials.is_empty()
    }
}
