//! One client, one host and port: what happens, which object decided it and why the others lost (`eastwest explain`).

mod resolve;

use eastwest_model::{
    Host, Name, ObjectRef, Origin, SpiffeId, Workload, WorkloadKey, mesh::OutboundTrafficPolicy,
};
use serde::Serialize;
use thiserror::Error;

use crate::{
    ClientScope, Snapshot,
    compute::{
        self, credentials,
        endpoints::{self, Backend},
        registry,
    },
    pair::{self, ConnectionOutcome, ConnectionReason, Pair},
    settings::{ClientTlsSetting, Endpoint, Mode, OutboundCluster},
    trace::Step,
};

/// Why a call cannot be explained: an error in the question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// No such client.
    #[error("there is no workload {0}")]
    UnknownClient(WorkloadKey),
    /// The client has no valid identity.
    #[error("workload {0} has no valid identity: its namespace or service account is malformed")]
    NoIdentity(WorkloadKey),
    /// No service of that name is known.
    #[error("no service {asked:?} is known to clients in namespace {namespace}{}", suggest(.similar))]
    UnknownHost {
        /// The host as asked for.
        asked: String,
        /// The client's namespace.
        namespace: Name,
        /// Hosts with a similar name, nearest first.
        similar: Vec<Host>,
    },
    /// The service has no such port.
    #[error("{host} has no port {port}; its service ports are {}{hint}", list(.known))]
    UnknownPort {
        /// The host.
        host: Host,
        /// The port as asked for.
        port: u16,
        /// The ports it has.
        known: Vec<u16>,
        /// A port that was probably meant.
        hint: String,
    },
}

fn suggest(similar: &[Host]) -> String {
    let names: Vec<&str> = similar.iter().map(Host::as_str).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What happens between a client and a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The client.
    pub client: WorkloadKey,
    /// Its identity.
    pub client_identity: SpiffeId,
    /// Whether it has a proxy of the mesh; without one it sends what its application sends, whatever is configured.
    pub client_in_mesh: bool,
    /// The host as asked for.
    pub asked: String,
    /// The host it resolves to; `null` if no service knows it.
    pub host: Option<Host>,
    /// The service port.
    pub port: u16,
    /// What becomes of the connections.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    pub reason: String,
    /// The Service or ServiceEntry that owns the host.
    pub owner: Option<ObjectRef>,
    /// The name of the Envoy cluster.
    pub cluster: String,
    /// How the client calls; `null` if no service knows the host.
    pub setting: Option<Setting>,
    /// Everything that was looked at for the client's side.
    pub trace: Vec<Step>,
    /// Every endpoint, seen from both sides.
    pub endpoints: Vec<EndpointExplanation>,
}

/// The client's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The effective mode.
    pub mode: Mode,
    /// Server name to send.
    pub sni: Option<Name>,
    /// SANs to accept, `null` = none is checked.
    pub subject_alt_names: Option<Vec<Name>>,
    /// Whether a SAN must match the Host header.
    pub auto_san_validation: bool,
    /// The object that decided; `null` = default, mesh configuration or inference.
    pub policy: Option<ObjectRef>,
    /// Where that object was read.
    pub origin: Option<Origin>,
}

/// What becomes of the connections to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Mutual TLS with every endpoint.
    MutualTls,
    /// Plaintext with every endpoint.
    Plaintext,
    /// TLS that a rule originates.
    Tls,
    /// No endpoint takes what the client sends.
    Refused,
    /// Some endpoints refuse what the client sends.
    PartlyRefused,
    /// Some endpoints take mutual TLS, some plaintext.
    Mixed,
    /// There is no endpoint that takes requests.
    NoEndpoints,
    /// No service knows the host: the proxy hands the bytes on as they are.
    Passthrough,
    /// No service knows the host: the proxy refuses (REGISTRY_ONLY).
    BlackHole,
}

/// One endpoint from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointExplanation {
    /// Its address and port.
    pub address: String,
    /// The workload behind it, if known.
    pub workload: Option<WorkloadKey>,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it is marked for mutual TLS.
    pub marked: bool,
    /// The group of the server's filter chains that the connection meets: `inbound|<port>||` for a port that a
    /// Service lists, else `InboundPassthroughCluster`; `null` without a proxy.
    pub server_cluster: Option<String>,
    /// Both sides.
    #[serde(flatten)]
    pub pair: Pair,
}

/// Explains what happens when a workload calls a host: a service's short or full name, a wildcard's instance, or a
/// virtual address.
///
/// # Errors
/// An unknown client, host or port, with what is known instead.
pub fn explain(
    snapshot: &Snapshot,
    client: &WorkloadKey,
    host: &str,
    port: u16,
) -> Result<Explanation, ExplainError> {
    let unknown = || ExplainError::UnknownClient(client.clone());
    let workload = snapshot.workload(client).ok_or_else(unknown)?;
    let no_identity = |_| ExplainError::NoIdentity(client.clone());
    let mut explanation = Explanation {
        client: client.clone(),
        client_identity: compute::identity(snapshot, workload).map_err(no_identity)?,
        client_in_mesh: compute::has_proxy(workload),
        asked: host.to_owned(),
        host: None,
        port,
        verdict: Verdict::Passthrough,
        reason: String::new(),
        owner: None,
        cluster: String::new(),
        setting: None,
        trace: Vec::new(),
        endpoints: Vec::new(),
    };
    let scope = ClientScope::of(snapshot, workload);
    match resolve::host(snapshot, &scope, host)? {
        Some(found) => explain_known(snapshot, &scope, &found, &mut explanation)?,
        None => explain_unknown(snapshot, &scope, workload, &mut explanation),
    }
    Ok(explanation)
}

/// The host that serves calls to `host`, after aliases; `None` if no service knows it.
pub(crate) fn resolve_host(snapshot: &Snapshot, scope: &ClientScope, host: &Host) -> Option<Host> {
    resolve::host(snapshot, scope, host.as_str()).ok().flatten()
}

/// A host that no service knows: its bytes pass through untouched, or not at all. The mode of a Pod of the mesh that is
/// called by its own address still counts.
fn explain_unknown(
    snapshot: &Snapshot,
    scope: &ClientScope,
    client: &Workload,
    explanation: &mut Explanation,
) {
    let asked = &explanation.asked;
    let unknown = format!("no service visible from namespace {} knows {asked}", client.meta.namespace());
    if scope.unknown_hosts(snapshot) == OutboundTrafficPolicy::RegistryOnly {
        explanation.verdict = Verdict::BlackHole;
        explanation.reason = format!("{unknown}, and outboundTrafficPolicy is REGISTRY_ONLY");
        explanation.cluster = "BlackHoleCluster".to_owned();
        return;
    }
    explanation.cluster = "PassthroughCluster".to_owned();
    explanation.reason = format!("{unknown}: its bytes are passed through untouched");
    let address = resolve::address(asked);
    let called = address.and_then(|it| Some((it, snapshot.workload_by_address(None, it)?)));
    if let Some((address, workload)) = called {
        let backend = Backend::of_address(workload, address, explanation.port);
        let pair = pair::evaluate(
            snapshot,
            workload.meta.namespace(),
            &ClientTlsSetting::Disable,
            &unmarked(&backend),
            &backend,
        );
        if pair.outcome == ConnectionOutcome::Refused {
            explanation.verdict = Verdict::Refused;
            explanation.reason = format!("{}; {}", explanation.reason, pair.reason);
        }
        explanation.endpoints.push(explained(snapshot, &unmarked(&backend), &backend, pair));
    }
}

fn unmarked(backend: &Backend) -> Endpoint {
    Endpoint {
        address: backend.address.clone(),
        mutual_tls: false,
        ready: backend.ready,
        weight: backend.weight,
        workload: backend.workload.clone(),
    }
}

fn explain_known(
    snapshot: &Snapshot,
    scope: &ClientScope,
    host: &Host,
    explanation: &mut Explanation,
) -> Result<(), ExplainError> {
    let port = explanation.port;
    let held = snapshot.hosts.get_key_value(host).map_or(host, |(held, _)| held);
    let view = registry::view(snapshot, scope, held);
    let backends = view.as_ref().map(|view| endpoints::of(snapshot, view)).unwrap_or_default();
    let service = compute::outbound_service(snapshot, scope, host);
    let whole = service.as_ref().and_then(|service| {
        service.clusters.iter().find(|one| one.port.number == port && one.subset.is_none())
    });
    let (Some(view), Some(service), Some(cluster)) = (&view, &service, whole) else {
        return Err(unknown_port(view.as_ref(), &backends, host, port));
    };
    explanation.host = Some(host.clone());
    explanation.owner = Some(service.owner.clone());
    explanation.cluster = cluster.name();
    if explanation.client_in_mesh {
        explanation.setting = Some(setting(cluster));
        explanation.trace = cluster.trace.steps().cloned().collect();
    }
    let sends = if explanation.client_in_mesh { &cluster.tls } else { &ClientTlsSetting::Disable };
    explanation.endpoints = endpoints(snapshot, view, &backends, cluster, sends);
    (explanation.verdict, explanation.reason) = verdict(&explanation.endpoints);
    if !explanation.client_in_mesh {
        explanation.reason =
            format!("the client has no proxy of the mesh and sends plaintext; {}", explanation.reason);
    }
    Ok(())
}

fn unknown_port(
    view: Option<&registry::View<'_>>,
    backends: &[Backend],
    host: &Host,
    port: u16,
) -> ExplainError {
    let ports = view.map(|view| view.ports.clone()).unwrap_or_default();
    let meant = backends
        .iter()
        .find(|backend| backend.port() == port)
        .and_then(|backend| ports.iter().find(|one| one.name == backend.port_name).map(|one| one.number));
    let hint = meant.map(|number| format!("; {port} is the container port behind service port {number}"));
    let known = ports.iter().map(|port| port.number).collect();
    ExplainError::UnknownPort { host: host.clone(), port, known, hint: hint.unwrap_or_default() }
}

fn setting(cluster: &OutboundCluster) -> Setting {
    let origin = cluster.policy.as_ref().and_then(|policy| {
        let mut steps = cluster.trace.steps().rev();
        steps.find(|step| step.object.as_ref() == Some(policy)).and_then(|step| step.origin.clone())
    });
    Setting {
        mode: cluster.tls.mode(),
        sni: cluster.tls.sni().cloned(),
        subject_alt_names: cluster.tls.subject_alt_names().map(<[_]>::to_vec),
        // Bytes name no host.
        auto_san_validation: cluster.tls.auto_san_validation() && !cluster.port.protocol.is_bytes(),
        policy: cluster.policy.clone(),
        origin,
    }
}

/// Both sides of every endpoint of a cluster, called with the setting `tls`.
pub(crate) fn endpoints(
    snapshot: &Snapshot,
    view: &registry::View<'_>,
    backends: &[Backend],
    cluster: &OutboundCluster,
    tls: &ClientTlsSetting,
) -> Vec<EndpointExplanation> {
    let of_port = backends.iter().filter(|backend| backend.port_name == cluster.port.name);
    // O7: without its credential the client makes no connection. A client without a proxy needs none.
    let own = *tls == cluster.tls;
    let withheld = own.then(|| credentials::withheld(&cluster.trace)).flatten();
    of_port
        .filter_map(|backend| {
            let endpoint = cluster.endpoints.iter().find(|one| one.address == backend.address)?;
            let mut pair = pair::evaluate(snapshot, view.namespace(), tls, endpoint, backend);
            if let Some(step) = withheld {
                pair = Pair {
                    outcome: ConnectionOutcome::Refused,
                    reason: ConnectionReason::Withheld(Box::new(step.reason.clone())),
                    chains: Vec::new(),
                    ..pair
                };
            }
            Some(explained(snapshot, endpoint, backend, pair))
        })
        .collect()
}

fn explained(snapshot: &Snapshot, endpoint: &Endpoint, backend: &Backend, pair: Pair) -> EndpointExplanation {
    EndpointExplanation {
        address: endpoint.address.to_string(),
        workload: endpoint.workload.clone(),
        ready: endpoint.ready,
        marked: endpoint.mutual_tls,
        server_cluster: pair.server.in_mesh.then(|| pair::server_cluster(snapshot, backend)),
        pair,
    }
}

fn verdict(endpoints: &[EndpointExplanation]) -> (Verdict, String) {
    let mut ready = endpoints.iter().filter(|endpoint| endpoint.ready);
    let Some(first) = ready.next() else {
        return (Verdict::NoEndpoints, "no endpoint takes requests".to_owned());
    };
    let rest: Vec<_> = ready.collect();
    let outcome = first.pair.outcome;
    if rest.iter().all(|endpoint| endpoint.pair.outcome == outcome) {
        let verdict = match outcome {
            ConnectionOutcome::MutualTls => Verdict::MutualTls,
            ConnectionOutcome::Plaintext => Verdict::Plaintext,
            ConnectionOutcome::Tls => Verdict::Tls,
            ConnectionOutcome::Refused => Verdict::Refused,
        };
        return (verdict, first.pair.reason.to_string());
    }
    let refusing = [first].into_iter().chain(rest).find(|one| one.pair.outcome == ConnectionOutcome::Refused);
    match refusing {
        Some(one) => (Verdict::PartlyRefused, format!("{}: {}", one.address, one.pair.reason)),
        None => (Verdict::Mixed, "the endpoints differ: see each one".to_owned()),
    }
}
