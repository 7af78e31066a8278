//! Workloads: Pods, templates of Pods and WorkloadEntries, as far as mutual TLS is concerned.

use std::{collections::BTreeMap, net::IpAddr};

use eastwest_identity::{Name, WorkloadKey};

use crate::{kind::Kind, meta::Meta};

/// The label for workloads whose proxy accepts mutual TLS (POLICY.md A4).
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// A Pod, an object with a template of Pods (a Deployment and its like) or a WorkloadEntry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Metadata; the kind is `Pod`, `WorkloadEntry`, or one that has a template, and then the labels are the template's.
    pub meta: Meta,
    /// The service account, `default` when a Pod names none, `None` when a WorkloadEntry names none.
    pub service_account: Option<Name>,
    /// Addresses; empty until a Pod got one.
    pub addresses: Vec<IpAddr>,
    /// Address of a WorkloadEntry that is a host name instead.
    pub dns_address: Option<Name>,
    /// Declared container ports (Pods).
    pub container_ports: Vec<ContainerPort>,
    /// Port overrides by the name of the service port (WorkloadEntries).
    pub port_overrides: BTreeMap<Name, u16>,
    /// Ready to serve: condition `Ready` of a Pod that is not being deleted; a WorkloadEntry always is.
    pub ready: bool,
    /// Ended (phase Succeeded or Failed): owns its address no longer.
    pub ended: bool,
    /// A sidecar stands among the containers of the Pod: `istio-proxy`.
    pub sidecar: bool,
    /// Istio's injector made the sidecar, for the family of the Pod's first address alone (no `ISTIO_DUAL_STACK`).
    pub redirects_one_family: bool,
    /// What a template says of the injection of a sidecar; `None` = the labels of its namespace decide.
    pub injection: Option<bool>,
    /// Load-balancing weight, 0 = unset (WorkloadEntries).
    pub weight: u32,
    /// `metadata.uid`, which tells a Pod from its successor of the same name; a manifest written by hand has none.
    pub uid: Option<Name>,
    /// The node that a Pod was given to, be it started or not.
    pub node: Option<Name>,
    /// The certificate that its proxy brings along instead of the mesh's.
    pub client_certificate: Option<ProxyCertificate>,
    /// The names of its Pods, if it is the template of a StatefulSet.
    pub replicas: Option<Replicas>,
}

/// The Pods of a StatefulSet: its name with a number behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// The headless Service below which their names are known to DNS.
    pub service: Option<Name>,
    /// The number of the first one.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// A client certificate in files of the pod that a proxy uses wherever the mesh's would be (POLICY.md O9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyCertificate {
    /// Path of the chain (`TLS_CLIENT_CERT_CHAIN`).
    pub chain: Name,
    /// Path of the key (`TLS_CLIENT_KEY`).
    pub key: Name,
    /// Path of the roots that servers must lead to (`TLS_CLIENT_ROOT_CERT`), else the system's.
    pub root: Option<Name>,
}

impl ProxyCertificate {
    /// Reads the three entries of a proxy's metadata; without a chain there is none.
    pub fn read(entry: impl Fn(&str) -> Option<Name>) -> Option<Self> {
        let given = |key| entry(key).filter(|path| !path.is_empty());
        let chain = given("TLS_CLIENT_CERT_CHAIN")?;
        let key = given("TLS_CLIENT_KEY").unwrap_or_default();
        Some(Self { chain, key, root: given("TLS_CLIENT_ROOT_CERT") })
    }
}

impl Workload {
    /// A running, ready workload without addresses, ports or a service account. Set the other fields with struct update
    /// syntax: `Workload { node, ..Workload::new(meta) }`.
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            service_account: None,
            addresses: Vec::new(),
            dns_address: None,
            container_ports: Vec::new(),
            port_overrides: BTreeMap::new(),
            ready: true,
            ended: false,
            sidecar: false,
            redirects_one_family: false,
            injection: None,
            weight: 0,
            uid: None,
            node: None,
            client_certificate: None,
            replicas: None,
        }
    }

    /// A Pod, or the template of one; else it is a WorkloadEntry.
    pub fn is_pod(&self) -> bool {
        self.meta.object.kind != Kind::WorkloadEntry
    }

    /// The template of Pods of which none is known.
    pub fn lacks_pods(&self) -> bool {
        self.meta.object.kind.has_template() && self.addresses.is_empty()
    }

    /// Whether it is the template of a StatefulSet that has a Pod of that name.
    pub fn has_replica(&self, pod: &str) -> bool {
        let number = || pod.strip_prefix(&**self.meta.name())?.strip_prefix('-')?.parse::<u32>().ok();
        let is_its = |replicas: &Replicas, number: u32| {
            let place = number.checked_sub(replicas.first);
            place.is_some_and(|place| place < replicas.count)
        };
        self.replicas.as_ref().zip(number()).is_some_and(|(replicas, number)| is_its(replicas, number))
    }

    /// Whether a Pod has all labels of this template.
    pub fn is_template_of(&self, pod: &Self) -> bool {
        self.meta.labels.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value))
    }

    /// Namespace and name.
    pub fn key(&self) -> WorkloadKey {
        WorkloadKey { namespace: self.meta.namespace().clone(), name: self.meta.name().clone() }
    }

    /// Whether the two differ at most in UID and node, which only proofs of identity depend on.
    pub fn differs_only_in_placement(&self, other: &Self) -> bool {
        let plain = |one: &Self| Self { uid: None, node: None, ..one.clone() };
        self == other || plain(self) == plain(other)
    }
}

/// A port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, by which a Service's `targetPort` may refer to it.
    pub name: Option<Name>,
    /// 1 to 65535.
    pub port: u16,
}
