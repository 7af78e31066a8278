//! What the engine computes: the effective TLS settings of a workload, each with its trace.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use eastwest_model::{
    Diagnostic, Families, Host, Kind, Name, ObjectRef, SpiffeId, TrustDomain, WorkloadKey,
    credential::{CaBundle, KeyPair},
    mesh::{OutboundTrafficPolicy, TlsVersion},
    policy::MutualTlsMode,
    service::{Protocol, ServicePort},
};
use ipnet::IpNet;
use serde::Serialize;

pub use crate::address::EndpointAddress;
use crate::{access::Access, trace::Trace, traffic::TrafficSettings};

/// The effective TLS settings of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadTls {
    /// Its namespace and name.
    pub workload: WorkloadKey,
    /// Its identity; the service account `default` where none is named.
    pub identity: SpiffeId,
    /// What it accepts from its callers.
    pub inbound: Arc<Inbound>,
    /// How it calls others; shared by all workloads of the same [`ClientScope`](crate::ClientScope).
    pub outbound: Arc<Outbound>,
    /// Warnings about objects that concern it. Only [`report`](crate::report) and the fleet fill them in.
    pub warnings: Vec<Diagnostic>,
}

/// What a workload accepts from its callers (POLICY.md P1 to P10 and I1 to I8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The mode of the workload, where no port has one of its own.
    pub mode: MutualTlsMode,
    /// The policy that decided it; `None` = the built-in PERMISSIVE.
    pub policy: Option<ObjectRef>,
    /// How it was decided.
    pub trace: Trace,
    /// Ports that a Service (or a Sidecar's `ingress`) lists or a policy names, by container port.
    pub ports: BTreeMap<u16, InboundPort>,
    /// Trust domains whose identities are accepted: ours first, then the aliases (I4).
    pub trust_domains: Vec<TrustDomain>,
    /// Lowest TLS version from the mesh.
    pub min_tls_version: TlsVersion,
    /// Access log of the listeners.
    pub access_log_file: Option<Name>,
    /// The policies of access that apply.
    pub access: Arc<Access>,
}

/// One port of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPort {
    /// The effective mode.
    pub mode: MutualTlsMode,
    /// The policy that decided it.
    pub policy: Option<ObjectRef>,
    /// How it was decided.
    pub trace: Trace,
    /// Whether a policy names this port (such ports are always printed).
    pub named_by_policy: bool,
    /// What it carries, when a Service or a Sidecar lists it; `None` = a port that no service lists, which gets
    /// passthrough chains of its own (P8, I1).
    pub listed: Option<Protocol>,
}

/// How workloads of one scope call others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Every host that they may call.
    pub services: BTreeMap<Host, Arc<OutboundService>>,
    /// The families of the workloads' own addresses.
    pub families: Families,
    /// What happens to hosts that no service knows.
    pub unknown_hosts: OutboundTrafficPolicy,
    /// Access log of the listeners.
    pub access_log_file: Option<Name>,
}

/// One host as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundService {
    /// The host.
    pub host: Host,
    /// The object it comes from and its namespace.
    pub owner: ObjectRef,
    /// Single virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Blocks of virtual addresses.
    pub blocks: Vec<IpNet>,
    /// Addresses of the object are left to Kubernetes Services (POLICY.md D12): connections to them are not for this host.
    pub leaves_addresses: bool,
    /// Addresses in the blocks that are left to Kubernetes Services, each with a port.
    pub spared: Vec<SocketAddr>,
    /// Short names that resolve to it from the client's namespace, e.g. `reviews`, `reviews.shop`,
    /// `reviews.shop.svc`; for the domains of HTTP routes. ExternalName aliases of the host stand here too (O1).
    pub aliases: Vec<Name>,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// The families of the clients' own addresses.
    pub families: Families,
    /// One entry for each port and subset, sorted by port, then the subset-less one first.
    pub clusters: Vec<Arc<OutboundCluster>>,
}

impl OutboundService {
    /// The clusters without subset: only routes that name a subset lead to the others.
    pub fn whole(&self) -> impl Iterator<Item = &OutboundCluster> {
        self.clusters.iter().map(AsRef::as_ref).filter(|cluster| cluster.subset.is_none())
    }

    /// The cluster of a port, without a subset.
    pub fn on_port(&self, port: u16) -> Option<&OutboundCluster> {
        self.whole().find(|cluster| cluster.port.number == port)
    }

    /// The virtual addresses that the clients can dial: those of their families (POLICY.md L9).
    pub fn dialled_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(|address| self.families.contain(*address))
    }

    /// Whether only a name tells connections to the host from others. Headless Services are called by the addresses of
    /// their pods.
    pub fn is_addressless(&self) -> bool {
        let has_none = self.addresses.is_empty() && self.blocks.is_empty() && !self.leaves_addresses;
        has_none && self.owner.kind != Kind::Service
    }
}

/// How the endpoints of a host are found (POLICY.md O1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Discovery {
    Eds,
    StrictDns,
    LogicalDns,
    OriginalDst,
    DynamicForwardProxy,
}

/// One (host, service port, subset).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundCluster {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: ServicePort,
    /// The subset, `None` for the whole host.
    pub subset: Option<Name>,
    /// How its endpoints are found; a rule's PASSTHROUGH makes it ORIGINAL_DST for this cluster alone.
    pub discovery: Discovery,
    /// The effective TLS setting.
    pub tls: ClientTlsSetting,
    /// The object that decided it; `None` = default, mesh configuration or inference.
    pub policy: Option<ObjectRef>,
    /// How it was decided.
    pub trace: Trace,
    /// What its DestinationRule says besides TLS.
    pub traffic: TrafficSettings,
    /// The endpoints, sorted by address, unready ones included.
    pub endpoints: Vec<Endpoint>,
    /// The credentials that the setting names, as far as the control plane can hand them out (O7).
    pub secrets: BTreeMap<Name, Secret>,
}

impl OutboundCluster {
    /// The name of the Envoy cluster: `outbound|<port>|<subset>|<host>`.
    pub fn name(&self) -> String {
        format!("outbound|{}|{}|{}", self.port.number, self.subset.as_deref().unwrap_or(""), self.host)
    }
}

/// How a client calls one cluster (POLICY.md O1 to O9).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientTlsSetting {
    /// Plaintext.
    Disable,
    /// Mutual TLS to the endpoints that support it, plaintext to the others (A3).
    Auto(MeshTls),
    /// Mutual TLS with the mesh's certificates.
    IstioMutual(MeshTls),
    /// TLS, only the server has a certificate.
    Simple(OriginatedTls),
    /// TLS with a client certificate from files or a credential.
    Mutual(OriginatedTls),
}

impl ClientTlsSetting {
    /// The mode that users see.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Disable => Mode::Disable,
            Self::Auto(_) => Mode::Auto,
            Self::IstioMutual(_) => Mode::IstioMutual,
            Self::Simple(_) => Mode::Simple,
            Self::Mutual(_) => Mode::Mutual,
        }
    }

    /// Server name to send; `None` = taken from the Host header, or none with plaintext.
    pub fn sni(&self) -> Option<&Name> {
        match self {
            Self::Disable => None,
            Self::Auto(mesh) | Self::IstioMutual(mesh) => Some(&mesh.sni).filter(|sni| !sni.is_empty()),
            Self::Simple(tls) | Self::Mutual(tls) => tls.sni.as_ref(),
        }
    }

    /// SANs to accept; `None` = none is checked.
    pub fn subject_alt_names(&self) -> Option<&[Name]> {
        let names = match self {
            Self::Disable => return None,
            Self::Auto(mesh) | Self::IstioMutual(mesh) => &mesh.subject_alt_names,
            Self::Simple(tls) | Self::Mutual(tls) => &tls.subject_alt_names,
        };
        Some(&names[..]).filter(|names| !names.is_empty())
    }

    /// Whether a SAN must match the Host header (O1, O5).
    pub fn auto_san_validation(&self) -> bool {
        match self {
            Self::Disable => false,
            Self::Auto(mesh) | Self::IstioMutual(mesh) => mesh.sni.is_empty(),
            Self::Simple(tls) | Self::Mutual(tls) => tls.auto_san_validation,
        }
    }
}

/// How a client calls, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Mode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
    /// Mutual where the endpoint supports it.
    Auto,
}

/// Mutual TLS inside the mesh (O2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MeshTls {
    /// Server name to send; empty for dynamic forward proxies, which take it from the Host header (O1).
    pub sni: Name,
    /// SANs to accept, exactly; empty = none is checked.
    pub subject_alt_names: Vec<Name>,
}

/// TLS that a rule originates (O5 to O7).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginatedTls {
    /// Server name to send; `None` = taken from the Host header.
    pub sni: Option<Name>,
    /// SANs to accept; empty = none is checked by name.
    pub subject_alt_names: Vec<Name>,
    /// Whether the SAN must match the Host header (auto_san_validation).
    pub auto_san_validation: bool,
    /// The client certificate.
    pub certificate: Option<CertificateSource>,
    /// What the server's certificate is checked against; `None` = not checked at all (O6).
    pub trust: Option<TrustSource>,
    /// Cipher suites and curves of the mesh's `tlsDefaults`.
    pub cipher_suites: Vec<Name>,
    /// Curves.
    pub curves: Vec<Name>,
}

/// Where a client certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CertificateSource {
    Files {
        certificate: Name,
        key: Name,
    },
    /// A credential, by the name under which proxies ask for it.
    Credential(Name),
}

/// A secret that the control plane hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// Certificate and key.
    Pair(KeyPair),
    /// Trust bundle.
    Trust(CaBundle),
}

impl Secret {
    /// SHA-256 of its certificate, or of its certificates, in hexadecimal.
    pub fn fingerprint(&self) -> &Name {
        match self {
            Self::Pair(pair) => &pair.fingerprint,
            Self::Trust(bundle) => &bundle.fingerprint,
        }
    }
}

/// Where a trust bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrustSource {
    /// A file.
    File(Name),
    /// A credential, by the name under which proxies ask for it, which ends in `-cacert`.
    Credential(Name),
    /// The roots of the operating system.
    System,
}

/// One endpoint of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address and port, or host name and port.
    pub address: EndpointAddress,
    /// Whether it is marked for mutual TLS (A4): the metadata `tlsMode: istio`.
    pub mutual_tls: bool,
    /// Whether it takes new requests.
    pub ready: bool,
    /// Load-balancing weight, 0 = unset.
    pub weight: u32,
    /// The workload behind it, if known.
    pub workload: Option<WorkloadKey>,
}
