//! The kinds of objects. A new kind is a variant of [`Kind`], a line of [`Kind::group`] and a line of the table of
//! object types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of Kubernetes objects that decide anything here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    Service,
    EndpointSlice,
    Pod,
    /// The older form of EndpointSlices.
    Endpoints,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    ConfigMap,
    Secret,
    PeerAuthentication,
    AuthorizationPolicy,
    RequestAuthentication,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
}

impl Kind {
    /// The API group that the kind belongs to.
    pub const fn group(self) -> Group {
        match self {
            Self::Namespace
            | Self::Service
            | Self::Pod
            | Self::Endpoints
            | Self::ConfigMap
            | Self::Secret => Group::Core,
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => Group::Apps,
            Self::Job | Self::CronJob => Group::Batch,
            Self::EndpointSlice => Group::Discovery,
            Self::DestinationRule | Self::ServiceEntry | Self::WorkloadEntry | Self::Sidecar => {
                Group::Networking
            }
            Self::PeerAuthentication | Self::AuthorizationPolicy | Self::RequestAuthentication => {
                Group::Security
            }
        }
    }

    /// Whether its objects hold a template of Pods.
    pub const fn has_template(self) -> bool {
        matches!(self.group(), Group::Apps | Group::Batch)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The API groups of Kubernetes and Istio that hold a [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Group {
    /// Kubernetes' own, which has no name.
    Core,
    Apps,
    Batch,
    Discovery,
    Networking,
    Security,
}

impl Group {
    /// Its name, as in `apiVersion`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "",
            Self::Apps => "apps",
            Self::Batch => "batch",
            Self::Discovery => "discovery.k8s.io",
            Self::Networking => "networking.istio.io",
            Self::Security => "security.istio.io",
        }
    }

    /// Whether its kinds are Istio's.
    pub const fn is_istio(self) -> bool {
        matches!(self, Self::Networking | Self::Security)
    }
}

/// The table of object types: the variant of `Object` and what it holds.
macro_rules! with_object_types {
    ($then:ident) => {
        $then! {
            Service(Service),
            EndpointSlice(EndpointSlice),
            /// A Pod, a template of Pods or a WorkloadEntry.
            Workload(Workload),
            ServiceEntry(ServiceEntry),
            Sidecar(Sidecar),
            PeerAuthentication(PeerAuthentication),
            AuthorizationPolicy(AuthorizationPolicy),
            RequestAuthentication(RequestAuthentication),
            DestinationRule(DestinationRule),
            /// A Secret, or a ConfigMap other than the mesh's.
            Credential(Credential),
        }
    };
}
pub(crate) use with_object_types;
