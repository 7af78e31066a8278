//! The effective settings of one workload as users see them (`eastwest tls`).

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{Diagnostic, Name, ObjectRef, SpiffeId, WorkloadKey, policy::MutualTlsMode};
use serde::Serialize;

use crate::{
    Snapshot,
    calls::{Caller, Claim},
    compute,
    lint::{self, ClientFindings},
    settings::{ClientTlsSetting, Endpoint, Inbound, Mode, OutboundCluster, WorkloadTls},
    world::is_placeholder,
};

/// Everything about one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsReport {
    /// `namespace/name`.
    pub workload: WorkloadKey,
    /// Its SPIFFE ID.
    pub identity: SpiffeId,
    /// What it accepts from its callers.
    pub inbound: InboundReport,
    /// How it calls others: one entry for each host, service port and subset, in this order.
    pub outbound: Vec<OutboundReport>,
    /// What concerns this workload and does not do what one may think.
    pub warnings: Vec<Warning>,
}

/// What a workload accepts from its callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundReport {
    /// The effective mode.
    pub default: MutualTlsMode,
    /// The policy that decided it; `null` = the built-in PERMISSIVE.
    pub policy: Option<ObjectRef>,
    /// Container ports that differ from the default or are named by a policy.
    pub ports: BTreeMap<u16, MutualTlsMode>,
    /// The policies that decided those; ports with the built-in mode are left out.
    pub port_policies: BTreeMap<u16, ObjectRef>,
}

/// How one (host, service port, subset) is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboundReport {
    /// The host.
    pub host: String,
    /// The service port.
    pub port: u16,
    /// The subset, `null` for the whole host.
    pub subset: Option<Name>,
    /// The effective mode.
    pub mode: Mode,
    /// Server name to send, `null` = taken from the Host header, or none with plaintext.
    pub sni: Option<Name>,
    /// SANs to accept, `null` = none is checked.
    pub subject_alt_names: Option<Vec<Name>>,
    /// The object that decided; `null` = default, mesh configuration or inference.
    pub policy: Option<ObjectRef>,
    /// With AUTO, how each endpoint that takes requests, and whose address is known, is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<BTreeMap<String, Mode>>,
}

/// An object that does not do what one may think.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// The object.
    pub object: String,
    /// What about it.
    pub message: String,
    /// The object that wins instead, if one does.
    pub beaten_by: Option<ObjectRef>,
}

impl From<Diagnostic> for Warning {
    fn from(finding: Diagnostic) -> Self {
        Self { object: finding.object, message: finding.message, beaten_by: finding.beaten_by }
    }
}

/// Everything about one workload with its warnings; `None` if there is none of that name, or it has no valid identity.
pub fn workload_tls(snapshot: &Snapshot, key: &WorkloadKey) -> Option<WorkloadTls> {
    let mut tls = compute::workload_tls(snapshot, key)?;
    let workload = snapshot.workload(key)?;
    let clients = ClientFindings::of(snapshot, &compute::client_scope(snapshot, workload), &tls.outbound);
    tls.warnings = lint::of_workload(snapshot, workload, &tls.inbound, &clients);
    Some(tls)
}

/// The report of a workload; `None` if there is none of that name.
pub fn tls_report(snapshot: &Snapshot, key: &WorkloadKey) -> Option<TlsReport> {
    let tls = workload_tls(snapshot, key)?;
    let workload = snapshot.workload(key)?;
    let scope = compute::client_scope(snapshot, workload);
    let caller = Caller::new(snapshot, &scope, &tls.outbound);
    let clusters = tls.outbound.services.values().flat_map(|service| &service.clusters);
    let warnings: BTreeSet<Diagnostic> =
        tls.warnings.into_iter().chain(lint::of_calls(&caller)).chain(lint::of_proxy(workload)).collect();
    Some(TlsReport {
        workload: key.clone(),
        inbound: inbound(&tls.inbound),
        outbound: clusters.map(|cluster| called(&caller, cluster)).collect(),
        warnings: warnings.into_iter().map(Warning::from).collect(),
        identity: tls.identity,
    })
}

/// How calls to the host of a cluster are made, wherever they lead. Only routes lead to a subset, so its settings count
/// where a route does.
fn called(caller: &Caller<'_>, cluster: &OutboundCluster) -> OutboundReport {
    let own = outbound(cluster);
    if cluster.subset.is_some() {
        return own;
    }
    let OutboundReport { host, port, subset, .. } = own.clone();
    match caller.claim(cluster) {
        Claim::Own => own,
        Claim::Other(other) => OutboundReport { host, port, subset, ..outbound(other) },
        Claim::Unknown => OutboundReport {
            mode: Mode::Disable,
            sni: None,
            subject_alt_names: None,
            policy: None,
            endpoints: None,
            ..own
        },
    }
}

/// What a workload accepts from its callers, as the user sees it.
pub fn inbound(inbound: &Inbound) -> InboundReport {
    let shown = || inbound.ports.iter().filter(|(_, port)| port.named_by_policy || port.mode != inbound.mode);
    InboundReport {
        default: inbound.mode,
        policy: inbound.policy.clone(),
        ports: shown().map(|(number, port)| (*number, port.mode)).collect(),
        port_policies: shown().filter_map(|(number, port)| Some((*number, port.policy.clone()?))).collect(),
    }
}

/// One cluster as the user sees it.
pub fn outbound(cluster: &OutboundCluster) -> OutboundReport {
    OutboundReport {
        host: cluster.host.to_string(),
        port: cluster.port.number,
        subset: cluster.subset.clone(),
        mode: cluster.tls.mode(),
        sni: cluster.tls.sni().cloned(),
        subject_alt_names: cluster.tls.subject_alt_names().map(<[_]>::to_vec),
        policy: cluster.policy.clone(),
        endpoints: matches!(cluster.tls, ClientTlsSetting::Auto(_)).then(|| endpoints(cluster)),
    }
}

fn endpoints(cluster: &OutboundCluster) -> BTreeMap<String, Mode> {
    let known = |endpoint: &&Endpoint| !endpoint.address.ip().is_some_and(is_placeholder);
    let ready = cluster.endpoints.iter().filter(|endpoint| endpoint.ready);
    ready
        .filter(known)
        .map(|endpoint| {
            let mode = if endpoint.mutual_tls { Mode::IstioMutual } else { Mode::Disable };
            (endpoint.address.to_string(), mode)
        })
        .collect()
}
