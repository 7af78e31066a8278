//! Any object of the model, as the sources hand it to the engine.

use std::sync::Arc;

use crate::{
    credential::Credential,
    mesh::MeshConfig,
    meta::{Created, Meta},
    names::{Kind, ObjectRef},
    policy::{DestinationRule, PeerAuthentication},
    service::{EndpointSlice, Service, ServiceEntry, Sidecar},
    workload::Workload,
};

/// A Kubernetes object in its parsed form.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Object {
    Namespace(Arc<Meta>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    /// A Pod or a WorkloadEntry.
    Workload(Arc<Workload>),
    ServiceEntry(Arc<ServiceEntry>),
    Sidecar(Arc<Sidecar>),
    PeerAuthentication(Arc<PeerAuthentication>),
    DestinationRule(Arc<DestinationRule>),
    /// A Secret, or a ConfigMap other than the mesh's.
    Credential(Arc<Credential>),
    /// The mesh's settings, with the ConfigMap that they come from.
    MeshConfig(Arc<Meta>, Arc<MeshConfig>),
}

impl Object {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(meta) | Self::MeshConfig(meta, _) => meta,
            Self::Service(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Workload(object) => &object.meta,
            Self::ServiceEntry(object) => &object.meta,
            Self::Sidecar(object) => &object.meta,
            Self::PeerAuthentication(object) => &object.meta,
            Self::DestinationRule(object) => &object.meta,
            Self::Credential(object) => &object.meta,
        }
    }

    /// Whether both say the same, wherever they were read.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.meta_mut().origin = self.meta().origin.clone();
        *self == other
    }

    /// The object with the age of `before`, what it was until now, if it tells none itself: a cluster keeps the age of
    /// what is applied anew.
    #[must_use]
    pub fn keeping_age_of(mut self, before: &Self) -> Self {
        if self.meta().created == Created::default() {
            self.meta_mut().created = before.meta().created;
        }
        self
    }

    fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Namespace(meta) | Self::MeshConfig(meta, _) => Arc::make_mut(meta),
            Self::Service(object) => &mut Arc::make_mut(object).meta,
            Self::EndpointSlice(object) => &mut Arc::make_mut(object).meta,
            Self::Workload(object) => &mut Arc::make_mut(object).meta,
            Self::ServiceEntry(object) => &mut Arc::make_mut(object).meta,
            Self::Sidecar(object) => &mut Arc::make_mut(object).meta,
            Self::PeerAuthentication(object) => &mut Arc::make_mut(object).meta,
            Self::DestinationRule(object) => &mut Arc::make_mut(object).meta,
            Self::Credential(object) => &mut Arc::make_mut(object).meta,
        }
    }

    /// What names it.
    pub fn reference(&self) -> &ObjectRef {
        &self.meta().object
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.reference().kind
    }
}

/// One step in the life of the world. The parsed forms are complete: an update replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object is new or different.
    Upsert(Object),
    /// The object is gone.
    Delete(ObjectRef),
}
