//! One client, one host and port: what happens, which object decided it and why the others lost (`eastwest explain`).

mod endpoints;
mod reason;

use eastwest_model::{Host, Name, ObjectRef, Origin, SpiffeId, Workload, WorkloadKey};
use serde::Serialize;

use crate::{
    ClientScope, Snapshot,
    calls::{Caller, Target, Way},
    compute,
    listeners::{FirstBytes, PASSTHROUGH_CLUSTER, Reached},
    pair::{ConnectionOutcome, Pair},
    settings::{ClientTlsSetting, Discovery, Mode, OutboundCluster},
    trace::Step,
    world::is_placeholder,
};

pub use crate::calls::{ExplainError, Port};
pub(crate) use endpoints::of_cluster as endpoints;

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
    /// The host that the call leads to, or that the name stands for; `null` if no service knows it.
    pub host: Option<Host>,
    /// The service port.
    pub port: u16,
    /// What becomes of the connections.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    pub reason: String,
    /// The Service or ServiceEntry that owns the host.
    pub owner: Option<ObjectRef>,
    /// What the application is taken to send first, by the protocol that the port declares; `null` without a proxy.
    pub first_bytes: Option<String>,
    /// The client's listener that takes the call, its filter chain and, for HTTP by routes, its virtual host.
    pub listener: Option<String>,
    /// See `listener`.
    pub chain: Option<String>,
    /// See `listener`.
    pub virtual_host: Option<String>,
    /// The name of the Envoy cluster.
    pub cluster: String,
    /// How the client calls; `null` if the call leads to no host.
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
    /// The call leads to no host: the proxy hands the bytes on as they are.
    Passthrough,
    /// The call leads to no host: the proxy refuses (REGISTRY_ONLY).
    BlackHole,
}

/// One endpoint from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointExplanation {
    /// Its address and port.
    pub address: String,
    /// The workload behind it, if known.
    pub workload: Option<WorkloadKey>,
    /// Its port.
    #[serde(skip)]
    pub port: u16,
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

/// Explains what happens when a workload calls a host: a service's short or full name, a pod's name below a headless
/// Service, a wildcard's instance, or an address.
///
/// # Errors
/// An unknown client, host or port, with what is known instead.
pub fn explain(
    snapshot: &Snapshot,
    client: &WorkloadKey,
    host: &str,
    port: impl Into<Port>,
) -> Result<Explanation, ExplainError> {
    let workload = snapshot.workload(client).ok_or_else(|| ExplainError::UnknownClient(client.clone()))?;
    let scope = ClientScope::of(snapshot, workload);
    let outbound = compute::outbound(snapshot, &scope);
    let caller = Caller::new(snapshot, &scope, &outbound);
    let port = caller.port_number(host, &port.into())?;
    explain_call(&caller, workload, host, port)
}

/// See [`explain`]; `caller` has the scope of the client.
pub(crate) fn explain_call(
    caller: &Caller<'_>,
    client: &Workload,
    host: &str,
    port: u16,
) -> Result<Explanation, ExplainError> {
    let key = client.key();
    let identity = compute::identity(caller.snapshot, client);
    let target = caller.target(host, port)?;
    let mut explanation = Explanation {
        client_identity: identity.map_err(|_| ExplainError::NoIdentity(key.clone()))?,
        client: key,
        client_in_mesh: compute::has_proxy(client),
        asked: host.to_owned(),
        host: target.host.clone(),
        port,
        verdict: Verdict::Passthrough,
        reason: String::new(),
        owner: None,
        first_bytes: None,
        listener: None,
        chain: None,
        virtual_host: None,
        cluster: String::new(),
        setting: None,
        trace: Vec::new(),
        endpoints: Vec::new(),
    };
    let call = CallOf { caller, target: &target };
    match explanation.client_in_mesh {
        true => call.by_proxy(&mut explanation),
        false => call.without_proxy(&mut explanation),
    }
    Ok(explanation)
}

/// A call whose target is known.
struct CallOf<'a> {
    caller: &'a Caller<'a>,
    target: &'a Target,
}

impl CallOf<'_> {
    /// What the client's proxy does with it.
    fn by_proxy(&self, explanation: &mut Explanation) {
        let ways = self.caller.ways(self.target);
        let Some(way) = ways.first() else { return self.nobody(explanation) };
        explanation.first_bytes = Some(self.target.first_bytes.to_string());
        explanation.listener = Some(listener(way));
        explanation.chain = Some(way.resolved.chain.clone());
        explanation.virtual_host.clone_from(&way.resolved.virtual_host);
        explanation.cluster = way.resolved.to.cluster_name();
        if let Reached::Cluster(cluster) = way.resolved.to {
            self.describe(cluster, explanation);
            decided(cluster, explanation);
        }
        explanation.endpoints = self.endpoints(&ways);
        let note = reason::note(self.caller, self.target, way);
        let (verdict, why) = self.verdict(way, &explanation.endpoints);
        let said = [note, why].into_iter().flatten();
        let unknown = reason::unknown(self.caller, self.target, &explanation.endpoints);
        explanation.verdict = verdict;
        explanation.reason = said.chain(unknown).collect::<Vec<_>>().join("; ");
    }

    /// The application dials itself, in plaintext.
    fn without_proxy(&self, explanation: &mut Explanation) {
        let known = self.target.host.as_ref().and_then(|host| self.caller.cluster(host, self.target.port));
        let dialled = self.caller.dialled(self.target);
        if dialled.is_empty() && !self.target.addresses.is_empty() {
            return self.nobody(explanation);
        }
        let plaintext = &ClientTlsSetting::Disable;
        explanation.endpoints = match known {
            Some(cluster) => {
                self.describe(cluster, explanation);
                explanation.cluster = cluster.name();
                endpoints::of_call(self.caller, cluster, &dialled, plaintext)
            }
            None => {
                explanation.cluster = PASSTHROUGH_CLUSTER.to_owned();
                endpoints::passed_through(self.caller, &dialled, self.target.port)
            }
        };
        let judged = self.judged(&explanation.endpoints);
        let (verdict, reason) = match (known, judged.is_empty()) {
            (Some(cluster), true) if cluster.discovery != Discovery::OriginalDst => {
                (Verdict::NoEndpoints, reason::nobody(self.caller, self.target))
            }
            (_, true) => (Verdict::Passthrough, "nothing is known of the address that it dials".to_owned()),
            (_, false) => verdict(&judged),
        };
        let said = format!("the client has no proxy of the mesh and sends plaintext; {reason}");
        let unknown = reason::unknown(self.caller, self.target, &explanation.endpoints);
        explanation.verdict = verdict;
        explanation.reason = [said].into_iter().chain(unknown).collect::<Vec<_>>().join("; ");
    }

    /// A name without an address.
    fn nobody(&self, explanation: &mut Explanation) {
        let known = self.target.host.as_ref().and_then(|host| self.caller.cluster(host, self.target.port));
        if let Some(cluster) = known {
            self.describe(cluster, explanation);
            explanation.cluster = cluster.name();
            decided(cluster, explanation);
        }
        explanation.verdict = Verdict::NoEndpoints;
        explanation.reason = reason::no_address(self.caller, self.target);
    }

    fn describe(&self, cluster: &OutboundCluster, explanation: &mut Explanation) {
        let service = self.caller.outbound.services.get(&cluster.host);
        explanation.host = Some(cluster.host.clone());
        explanation.owner = service.map(|service| service.owner.clone());
    }

    /// The endpoints of each way; ways to one cluster share them.
    fn endpoints(&self, ways: &[Way<'_>]) -> Vec<EndpointExplanation> {
        let mut found: Vec<EndpointExplanation> = Vec::new();
        let mut done = Vec::new();
        for way in ways.iter().map(|way| way.resolved.to) {
            if done.contains(&way) {
                continue;
            }
            done.push(way);
            let addresses: Vec<_> =
                ways.iter().filter(|one| one.resolved.to == way).map(|one| one.address).collect();
            found.extend(match way {
                Reached::Cluster(cluster) => {
                    endpoints::of_call(self.caller, cluster, &addresses, &cluster.tls)
                }
                Reached::Passthrough => endpoints::passed_through(self.caller, &addresses, self.target.port),
                Reached::BlackHole | Reached::Answered(_) => Vec::new(),
            });
        }
        found
    }

    /// The endpoints that a verdict is about: those that take requests, or the one that is called by its own address.
    fn judged<'e>(&self, endpoints: &'e [EndpointExplanation]) -> Vec<&'e EndpointExplanation> {
        endpoints.iter().filter(|one| one.ready || self.target.is_exact).collect()
    }

    /// The verdict and, if there is more to say than where the call goes, why.
    fn verdict(&self, way: &Way<'_>, endpoints: &[EndpointExplanation]) -> (Verdict, Option<String>) {
        let judged = self.judged(endpoints);
        match way.resolved.to {
            Reached::BlackHole | Reached::Answered(_) => (Verdict::BlackHole, None),
            Reached::Cluster(cluster)
                if endpoints.is_empty() && cluster.discovery == Discovery::OriginalDst =>
            {
                (reason::sent(&cluster.tls), Some(reason::dialled_as_resolved(&cluster.tls)))
            }
            Reached::Cluster(_) if judged.is_empty() => {
                (Verdict::NoEndpoints, Some(reason::nobody(self.caller, self.target)))
            }
            Reached::Cluster(_) => {
                let (verdict, reason) = verdict(&judged);
                let own_tls = matches!(self.target.first_bytes, FirstBytes::Tls { .. });
                (verdict, Some(reason::of_bytes(verdict, reason, own_tls)))
            }
            Reached::Passthrough => match verdict_or_none(&judged) {
                Some((verdict @ (Verdict::Refused | Verdict::PartlyRefused), reason)) => {
                    (verdict, Some(reason))
                }
                _ => (Verdict::Passthrough, None),
            },
        }
    }
}

/// The name of a way's listener. That of an address that is not known has its port alone.
fn listener(way: &Way<'_>) -> String {
    let name = &way.resolved.listener;
    let own = way.address.filter(|address| is_placeholder(*address)).map(|address| address.to_string());
    match own.and_then(|own| name.strip_prefix(&own)) {
        Some(port) => format!("ADDRESS{port}"),
        None => name.clone(),
    }
}

fn verdict_or_none(judged: &[&EndpointExplanation]) -> Option<(Verdict, String)> {
    (!judged.is_empty()).then(|| verdict(judged))
}

/// How the client calls, and how that was decided.
fn decided(cluster: &OutboundCluster, explanation: &mut Explanation) {
    explanation.setting = Some(setting(cluster));
    explanation.trace = cluster.trace.steps().cloned().collect();
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

/// The verdict over some endpoints, at least one.
fn verdict(judged: &[&EndpointExplanation]) -> (Verdict, String) {
    let [first, rest @ ..] = judged else { return (Verdict::NoEndpoints, reason::NOBODY.to_owned()) };
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
    let refusing = judged.iter().find(|one| one.pair.outcome == ConnectionOutcome::Refused);
    match refusing {
        Some(one) => (Verdict::PartlyRefused, format!("{}: {}", one.address, one.pair.reason)),
        None => (Verdict::Mixed, "the endpoints differ: see each one".to_owned()),
    }
}
