//! Services: Kubernetes Services, ServiceEntries and the endpoints behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use eastwest_identity::Name;
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    families::Family,
    meta::{Labels, Meta, Selector},
    names::Host,
    unknown_hosts::OutboundTrafficPolicy,
};

/// The namespaces that may see an object: `exportTo` as written, because sets are compared as written (POLICY.md D5,
/// D9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ExportTo {
    /// No list: the mesh's default applies.
    Default,
    /// The list as a set; `*`, `.`, `~` or namespaces.
    Set(BTreeSet<Name>),
}

impl ExportTo {
    /// The set with the mesh's default filled in.
    pub fn or_default<'a>(&'a self, default: &'a BTreeSet<Name>) -> &'a BTreeSet<Name> {
        match self {
            Self::Default => default,
            Self::Set(set) => set,
        }
    }
}

/// What a port carries, by `appProtocol` or the prefix of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1 (`http`, `grpc-web`).
    Http,
    /// HTTP/2 (`http2`, `grpc`).
    Http2,
    /// Bytes (`tcp`, `mongo`, `mysql`, `redis`).
    Tcp,
    /// TLS of the application, which is passed on like other bytes (`tls`, `https`).
    Tls,
    /// Nothing declared: found out by looking at the first bytes.
    Undeclared,
}

impl Protocol {
    /// HTTP of any version was declared.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }

    /// Bytes were declared, with or without TLS of the application.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// Where a Service port leads on the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A container port.
    Number(u16),
    /// The name of a container port; may resolve differently per Pod.
    Named(Name),
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty if it has none.
    pub name: Name,
    /// The number that clients dial.
    pub number: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: TargetPort,
}

/// A Kubernetes Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Metadata; annotations `alpha.istio.io/{canonical,kubernetes}-serviceaccounts` and
    /// `networking.istio.io/exportTo` are kept.
    pub meta: Meta,
    /// Cluster IPs; empty for headless and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// The target of an ExternalName service, which is only an alias (POLICY.md O1).
    pub external_name: Option<Host>,
    /// Ports; UDP and SCTP are left out.
    pub ports: Vec<ServicePort>,
    /// Selector; `None` when the spec has none, and then endpoints are made by hand.
    pub selector: Option<Selector>,
    /// The families of its endpoints (`ipFamilies`); empty = that of each Pod's first address.
    pub families: Vec<Family>,
    /// Pods that are not ready count as ready (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// Visibility by annotation.
    pub export_to: ExportTo,
}

impl Service {
    /// Whether a cluster would give it a cluster IP, and none is known.
    pub fn lacks_cluster_ip(&self) -> bool {
        self.cluster_ips.is_empty() && !self.headless && self.external_name.is_none()
    }
}

/// A Kubernetes EndpointSlice, or the Endpoints of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// The Service it belongs to (label `kubernetes.io/service-name`), same namespace.
    pub service: Name,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Its ports by name (empty name for an unnamed one); of Endpoints, those of all subsets.
    pub ports: BTreeMap<Name, u16>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Addresses of the same backend.
    pub addresses: Vec<IpAddr>,
    /// Condition `ready`; absent means ready.
    pub ready: bool,
    /// `targetRef` of kind Pod: the Pod's name, in the slice's namespace.
    pub pod: Option<Name>,
    /// The ports of its subset, if it has some of its own (Endpoints).
    pub ports: Option<BTreeMap<Name, u16>>,
}

/// Where a ServiceEntry's endpoints live (`location`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// The default.
    External,
    /// Part of the mesh.
    Internal,
}

/// How a ServiceEntry's addresses are found (`resolution`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

/// A ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Metadata.
    pub meta: Meta,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Single virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Blocks of virtual addresses.
    pub blocks: Vec<IpNet>,
    /// Ports; a port's `target` is a number, the own one if none is given.
    pub ports: Vec<ServicePort>,
    /// Location.
    pub location: Location,
    /// Resolution.
    pub resolution: Resolution,
    /// Inline endpoints.
    pub endpoints: Vec<EntryEndpoint>,
    /// Selects Pods and WorkloadEntries of the namespace.
    pub workload_selector: Option<Selector>,
    /// SANs to expect.
    pub subject_alt_names: Vec<Name>,
    /// Visibility.
    pub export_to: ExportTo,
}

/// One inline endpoint of a ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryEndpoint {
    /// IP address or host name, as written; `None` = it is reached through a gateway of its network alone.
    pub address: Option<Name>,
    /// Port overrides by the name of the service port.
    pub ports: BTreeMap<Name, u16>,
    /// Labels.
    pub labels: Labels,
    /// Service account.
    pub service_account: Option<Name>,
    /// Load-balancing weight, 0 = unset.
    pub weight: u32,
}

/// An egress listener of a Sidecar: which hosts are imported, and on which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressListener {
    /// The only port of these hosts that is imported; `None` = all of them.
    pub port: Option<u16>,
    /// `namespace/host` each.
    pub hosts: Vec<(Name, Host)>,
}

/// A Sidecar, as far as TLS is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Metadata.
    pub meta: Meta,
    /// Which workloads; `None` = the whole namespace (the whole mesh from the root namespace).
    pub selector: Option<Selector>,
    /// Egress listeners; where there is none, everything visible is imported.
    pub egress: Vec<EgressListener>,
    /// What to do with hosts that no service knows, if not as the mesh does.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Ingress listeners: the only declared inbound ports where given (POLICY.md P8, I1).
    pub ingress: Vec<ServicePort>,
}
