//! One client against one endpoint: what is sent, what the server takes, and whether that fits.

use std::sync::Arc;

use eastwest_model::{
    Name, ObjectRef, Origin, SpiffeId,
    policy::{MutualTlsMode, PeerAuthentication},
    service::Protocol,
};
use serde::Serialize;

use crate::{
    Snapshot,
    compute::{
        endpoints::{Backend, Mark},
        listed_ports, peer_authentication as policies,
    },
    settings::{ClientTlsSetting, Endpoint},
    trace::Step,
};

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
pub enum Outcome {
    /// Mutual TLS inside the mesh.
    MutualTls,
    /// Plaintext.
    Plaintext,
    /// TLS that a rule originates; whoever listens there must answer it.
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
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// The server's filter chains that may take it, named as in `virtualInbound`: two where the first bytes decide,
    /// none where it is refused or no proxy stands before the server.
    #[serde(rename = "server_chains")]
    pub chains: Vec<String>,
}

/// Looks at one endpoint of a cluster from both sides.
pub(crate) fn look(
    snapshot: &Snapshot,
    namespace: &Name,
    setting: &ClientTlsSetting,
    endpoint: &Endpoint,
    backend: &Backend,
) -> Pair {
    let sends = sends(setting, endpoint);
    let server = server(snapshot, namespace, backend);
    let (outcome, reason) = match (&server.mode, sends) {
        (None, sends) => without_proxy(sends),
        (Some(mode), Sends::Tls) => {
            let http = listed(snapshot, backend).is_some_and(Protocol::is_http);
            originated_tls(*mode, setting, http)
        }
        (Some(mode), sends) => in_mesh(*mode, sends),
    };
    let (outcome, reason) = match unexpected_identity(setting, sends, &server) {
        Some(reason) if outcome == Outcome::MutualTls => (Outcome::Refused, reason),
        _ => (outcome, reason),
    };
    let taken = server.mode.filter(|_| outcome != Outcome::Refused);
    let chains = taken.map(|mode| chains(snapshot, namespace, backend, mode, sends)).unwrap_or_default();
    Pair { sends, server, outcome, reason, chains }
}

/// I1, I2: the chains of the port's own group, or of the group for all ports that nobody named.
fn chains(
    snapshot: &Snapshot,
    namespace: &Name,
    backend: &Backend,
    mode: MutualTlsMode,
    sends: Sends,
) -> Vec<String> {
    let port = backend.port();
    let listed = listed(snapshot, backend);
    let named = listed.is_some()
        || policies::choose(snapshot, namespace, &backend.labels).named_ports().any(|one| one == port);
    let group = if named { port.to_string() } else { "passthrough".to_owned() };
    let undeclared = listed.unwrap_or(Protocol::Undeclared) == Protocol::Undeclared;
    let kinds: &[&str] = match (sends, mode) {
        (Sends::MutualTls, _) if undeclared => &["mesh-http", "mesh-tcp"],
        (Sends::MutualTls, _) => &["mesh"],
        (Sends::Plaintext, _) if undeclared => &["plaintext-http", "plaintext-tcp"],
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

fn server(snapshot: &Snapshot, namespace: &Name, backend: &Backend) -> Server {
    let account = backend.account.as_deref();
    let identity =
        account.and_then(|one| SpiffeId::workload(&snapshot.mesh.trust_domain, namespace, one).ok());
    if backend.mark == Mark::Disabled {
        return Server {
            in_mesh: false,
            mode: None,
            policy: None,
            origin: None,
            trace: Vec::new(),
            identity,
        };
    }
    let chosen = policies::choose(snapshot, namespace, &backend.labels);
    let (mode, policy) = chosen.mode_of_port(backend.port());
    Server {
        in_mesh: true,
        mode: Some(mode),
        policy: policy.map(|policy: &Arc<PeerAuthentication>| policy.meta.object.clone()),
        origin: policy.map(|policy| policy.meta.origin.clone()),
        trace: chosen.trace_of_port(backend.port(), &policies::trace(snapshot, namespace, &backend.labels)),
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

fn without_proxy(sends: Sends) -> (Outcome, String) {
    match sends {
        Sends::Plaintext => (Outcome::Plaintext, "the server has no proxy of the mesh".to_owned()),
        Sends::Tls => {
            (Outcome::Tls, "the server has no proxy of the mesh and must answer TLS itself".to_owned())
        }
        Sends::MutualTls => {
            let reason =
                "the client insists on the mesh's mutual TLS, and the server has no proxy of the mesh";
            (Outcome::Refused, reason.to_owned())
        }
    }
}

/// I2: what each mode's filter chains take.
fn in_mesh(mode: MutualTlsMode, sends: Sends) -> (Outcome, String) {
    match (mode, sends) {
        (MutualTlsMode::Disable, Sends::MutualTls) => (
            Outcome::Refused,
            "the server's proxy reads plaintext alone, not the mesh's mutual TLS".to_owned(),
        ),
        (MutualTlsMode::Strict, Sends::Plaintext) => (
            Outcome::Refused,
            "the server's proxy takes mutual TLS alone: no filter chain matches plaintext".to_owned(),
        ),
        (mode, Sends::MutualTls) => (Outcome::MutualTls, format!("the server is {mode}")),
        (mode, _) => (Outcome::Plaintext, format!("the server is {mode}")),
    }
}

/// I2: TLS that is not the mesh's own.
fn originated_tls(mode: MutualTlsMode, setting: &ClientTlsSetting, http: bool) -> (Outcome, String) {
    let refused = |reason: &str| (Outcome::Refused, reason.to_owned());
    match (mode, setting) {
        (MutualTlsMode::Strict, ClientTlsSetting::Mutual(_)) => {
            let reason = "the server's proxy is STRICT: it takes the rule's certificate only if the mesh's CA signed it";
            (Outcome::Tls, reason.to_owned())
        }
        (MutualTlsMode::Strict, _) => {
            refused("the server's proxy is STRICT and wants a client certificate, which SIMPLE does not send")
        }
        (MutualTlsMode::Permissive, _) if http => refused(
            "the server's proxy is PERMISSIVE and the port is declared HTTP: TLS from outside the mesh matches no filter chain",
        ),
        (MutualTlsMode::Disable, _) if http => {
            refused("the server's proxy is DISABLE and reads HTTP in plaintext on this port")
        }
        (mode, _) => {
            (Outcome::Tls, format!("the server's proxy is {mode} and hands TLS on to the application"))
        }
    }
}

/// O2: the client checks the server's name.
fn unexpected_identity(setting: &ClientTlsSetting, sends: Sends, server: &Server) -> Option<String> {
    let (ClientTlsSetting::Auto(tls) | ClientTlsSetting::IstioMutual(tls)) = setting else { return None };
    let identity = server.identity.as_ref().filter(|_| sends == Sends::MutualTls)?;
    let expected = tls.subject_alt_names.iter().any(|name| **name == *identity.as_str());
    (!tls.subject_alt_names.is_empty() && !expected)
        .then(|| format!("the server is {identity}, and the client accepts none but its subject_alt_names"))
}
