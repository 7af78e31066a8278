//! One client and one endpoint: what the client sends, what the server accepts, and the outcome.

mod reason;

use eastwest_model::{Name, ObjectRef, Origin, SpiffeId, policy::MutualTlsMode, service::Protocol};
use serde::Serialize;

use crate::{
    Snapshot,
    compute::{
        endpoints::{Backend, Mark},
        listed_ports,
        peer_authentication::{self as policies, Chosen},
    },
    settings::{ClientTlsSetting, Endpoint},
    trace::Step,
};

pub use reason::ConnectionReason;

/// What a client sends to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Sends {
    /// Plaintext.
    Plaintext,
    /// Mutual TLS with the mesh's certificates.
    MutualTls,
    /// TLS that a rule originates, without or with a certificate of its own.
    Tls,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionOutcome {
    /// Mutual TLS inside the mesh.
    MutualTls,
    /// Plaintext.
    Plaintext,
    /// TLS that a rule originates; the server must speak it.
    Tls,
    /// The two sides do not fit.
    Refused,
}

/// What the server's side does at the dialled port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Whether a proxy of the mesh stands before it.
    pub in_mesh: bool,
    /// The effective mode at the port; `None` without a proxy, which no policy concerns.
    pub mode: Option<MutualTlsMode>,
    /// The policy that decided the mode.
    pub policy: Option<ObjectRef>,
    /// Where that policy was read.
    pub origin: Option<Origin>,
    /// Every policy looked at.
    pub trace: Vec<Step>,
    /// Its identity, if it has one.
    pub identity: Option<SpiffeId>,
}

/// Both sides of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// What the client sends.
    pub sends: Sends,
    /// The server's side.
    pub server: Server,
    /// What becomes of it.
    pub outcome: ConnectionOutcome,
    /// Why.
    pub reason: ConnectionReason,
    /// The server's filter chains that may take it, named as in `virtualInbound`: two where the first bytes decide,
    /// none where it is refused or no proxy stands before the server.
    #[serde(rename = "server_chains")]
    pub chains: Vec<String>,
}

/// Evaluates one endpoint of a cluster from both sides.
pub(crate) fn evaluate(
    snapshot: &Snapshot,
    namespace: &Name,
    setting: &ClientTlsSetting,
    endpoint: &Endpoint,
    backend: &Backend,
) -> Pair {
    let sends = sends(setting, endpoint);
    let listed = listed(snapshot, backend);
    let chosen =
        (backend.mark != Mark::Disabled).then(|| policies::choose(snapshot, namespace, &backend.labels));
    let server = server(snapshot, namespace, backend, chosen.as_ref());
    let (outcome, reason) = match (server.mode, sends) {
        (None, sends) => without_proxy(sends),
        (Some(mode), Sends::Tls) => originated_tls(mode, setting, listed.is_some_and(Protocol::is_http)),
        (Some(mode), sends) => in_mesh(mode, sends),
    };
    let (outcome, reason) = match unexpected_identity(setting, sends, &server) {
        Some(reason) if outcome == ConnectionOutcome::MutualTls => (ConnectionOutcome::Refused, reason),
        _ => (outcome, reason),
    };
    let chains = match (&chosen, server.mode) {
        (Some(chosen), Some(mode)) if outcome != ConnectionOutcome::Refused => {
            chains(chosen, backend.port(), listed, mode, sends)
        }
        _ => Vec::new(),
    };
    Pair { sends, server, outcome, reason, chains }
}

/// I1, I2: the chains of the port's own group, or of the group for all ports that are neither listed nor named.
fn chains(
    chosen: &Chosen<'_>,
    port: u16,
    listed: Option<Protocol>,
    mode: MutualTlsMode,
    sends: Sends,
) -> Vec<String> {
    let named = listed.is_some() || chosen.named_ports().any(|one| one == port);
    let group = if named { port.to_string() } else { "passthrough".to_owned() };
    let undeclared = listed.unwrap_or(Protocol::Undeclared) == Protocol::Undeclared;
    let kinds: &[&str] = match (sends, mode) {
        (Sends::MutualTls, _) if undeclared => &["mesh-http", "mesh-tcp"],
        (Sends::MutualTls, _) => &["mesh"],
        (Sends::Plaintext, _) if undeclared => &["plaintext-http", "plaintext-tcp"],
        // An application may speak TLS to a port that declares it.
        (Sends::Plaintext, _) if listed == Some(Protocol::Tls) => &["plaintext", "application-tls"],
        (Sends::Plaintext, _) => &["plaintext"],
        (Sends::Tls, MutualTlsMode::Strict) => &["tls"],
        (Sends::Tls, _) => &["application-tls"],
    };
    kinds.iter().map(|kind| format!("virtualInbound-{group}-{kind}")).collect()
}

fn sends(setting: &ClientTlsSetting, endpoint: &Endpoint) -> Sends {
    match setting {
        ClientTlsSetting::Disable => Sends::Plaintext,
        ClientTlsSetting::Auto(_) if !endpoint.mutual_tls => Sends::Plaintext,
        ClientTlsSetting::Auto(_) | ClientTlsSetting::IstioMutual(_) => Sends::MutualTls,
        ClientTlsSetting::Simple(_) | ClientTlsSetting::Mutual(_) => Sends::Tls,
    }
}

/// The server's side; `chosen` are the policies of its proxy, `None` if it has none.
fn server(snapshot: &Snapshot, namespace: &Name, backend: &Backend, chosen: Option<&Chosen<'_>>) -> Server {
    let account = backend.account.as_deref();
    let identity =
        account.and_then(|one| SpiffeId::workload(&snapshot.mesh.trust_domain, namespace, one).ok());
    let Some(chosen) = chosen else {
        return Server {
            in_mesh: false,
            mode: None,
            policy: None,
            origin: None,
            trace: Vec::new(),
            identity,
        };
    };
    let (mode, policy) = chosen.mode_of_port(backend.port());
    let steps = chosen.steps(snapshot, namespace, &backend.labels);
    Server {
        in_mesh: true,
        mode: Some(mode),
        policy: policy.map(|policy| policy.meta.object.clone()),
        origin: policy.map(|policy| policy.meta.origin.clone()),
        trace: chosen.trace_of_port(backend.port(), &steps).steps().cloned().collect(),
        identity,
    }
}

fn listed(snapshot: &Snapshot, backend: &Backend) -> Option<Protocol> {
    let workload = backend.workload.as_ref().and_then(|key| snapshot.workload(key))?;
    listed_ports::of(snapshot, workload).get(&backend.port()).copied()
}

/// The server's cluster behind the filter chains that the connection meets (I5).
pub(crate) fn server_cluster(snapshot: &Snapshot, backend: &Backend) -> String {
    match listed(snapshot, backend) {
        Some(_) => format!("inbound|{}||", backend.port()),
        None => "InboundPassthroughCluster".to_owned(),
    }
}

fn without_proxy(sends: Sends) -> (ConnectionOutcome, ConnectionReason) {
    match sends {
        Sends::Plaintext => (ConnectionOutcome::Plaintext, ConnectionReason::NoProxy),
        Sends::Tls => (ConnectionOutcome::Tls, ConnectionReason::NoProxyForTls),
        Sends::MutualTls => (ConnectionOutcome::Refused, ConnectionReason::NoProxyForMutualTls),
    }
}

/// I2: what each mode's filter chains take.
fn in_mesh(mode: MutualTlsMode, sends: Sends) -> (ConnectionOutcome, ConnectionReason) {
    match (mode, sends) {
        (MutualTlsMode::Disable, Sends::MutualTls) => {
            (ConnectionOutcome::Refused, ConnectionReason::PlaintextOnly)
        }
        (MutualTlsMode::Strict, Sends::Plaintext) => {
            (ConnectionOutcome::Refused, ConnectionReason::MutualTlsOnly)
        }
        (mode, Sends::MutualTls) => (ConnectionOutcome::MutualTls, ConnectionReason::Accepted(mode)),
        (mode, _) => (ConnectionOutcome::Plaintext, ConnectionReason::Accepted(mode)),
    }
}

/// I2: TLS that is not the mesh's own.
fn originated_tls(
    mode: MutualTlsMode,
    setting: &ClientTlsSetting,
    http: bool,
) -> (ConnectionOutcome, ConnectionReason) {
    match (mode, setting) {
        (MutualTlsMode::Strict, ClientTlsSetting::Mutual(_)) => {
            (ConnectionOutcome::Tls, ConnectionReason::NeedsMeshCertificate)
        }
        (MutualTlsMode::Strict, _) => (ConnectionOutcome::Refused, ConnectionReason::NeedsClientCertificate),
        (MutualTlsMode::Permissive, _) if http => {
            (ConnectionOutcome::Refused, ConnectionReason::NoChainForTls)
        }
        (MutualTlsMode::Disable, _) if http => {
            (ConnectionOutcome::Refused, ConnectionReason::PlaintextHttpOnly)
        }
        (mode, _) => (ConnectionOutcome::Tls, ConnectionReason::PassedToApplication(mode)),
    }
}

/// O2: the client checks the server's name.
fn unexpected_identity(
    setting: &ClientTlsSetting,
    sends: Sends,
    server: &Server,
) -> Option<ConnectionReason> {
    let (ClientTlsSetting::Auto(tls) | ClientTlsSetting::IstioMutual(tls)) = setting else { return None };
    let identity = server.identity.as_ref().filter(|_| sends == Sends::MutualTls)?;
    let expected = tls.subject_alt_names.iter().any(|name| **name == *identity.as_str());
    (!tls.subject_alt_names.is_empty() && !expected)
        .then(|| ConnectionReason::UnexpectedIdentity(identity.clone()))
}
