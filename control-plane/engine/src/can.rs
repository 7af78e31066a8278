//! May a call be made: mutual TLS and access control in one verdict (`eastwest can`).

mod connection;

use std::net::IpAddr;

use eastwest_model::{Name, ObjectRef, SpiffeId, WorkloadKey, service::Protocol};
use serde::{Deserialize, Serialize};

use crate::{
    Port, Snapshot,
    access::{self, By, Given, HttpRequest, Judged, Outcome, Request, RequestLine},
    calls::ExplainError,
    compute,
};

use connection::Connection;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// A workload.
    Workload(WorkloadKey),
    /// Anybody in plaintext.
    Plaintext,
    /// Anybody with this identity.
    Principal(SpiffeId),
}

/// Whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A workload, at a port of its own.
    Workload(WorkloadKey, u16),
    /// A host, at a service port; or an address.
    Host(String, Port),
}

/// What is sent. What is not given is what such a client would send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Sent {
    pub method: Option<String>,
    pub path: Option<String>,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The authority.
    pub host: Option<String>,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// The server name of the handshake.
    pub server_name: Option<String>,
    /// Claims of a token that is accepted.
    pub claims: Vec<(String, String)>,
    /// Whether it is HTTP, where the port does not say.
    pub http: Option<bool>,
}

/// How the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Tls {
    Mutual,
    Plaintext,
    Refused,
}

/// Whether the call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Verdict {
    Allow,
    Deny,
}

/// The answer for one workload of the server, or for the host: then it is that of the workload that allows least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// May it be made?
    pub verdict: Verdict,
    /// What decided; `null` = nothing did.
    pub by: Option<By>,
    /// The rule of that policy.
    pub rule: Option<usize>,
    /// Why, for people.
    pub reason: String,
    /// How the connection is made.
    pub tls: Tls,
    /// External authorizers that are asked first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Name>,
    /// The workload, if one is known.
    pub server: Option<WorkloadKey>,
    /// The port that is dialled there.
    pub port: u16,
    /// `HTTP` or `TCP`: what the server's proxy takes it for.
    pub protocol: &'static str,
    /// The identity that the server's proxy sees.
    pub principal: Option<SpiffeId>,
    /// Every policy that applies.
    pub policies: Vec<Outcome>,
    /// The verdicts of all workloads of a host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerAnswer>,
}

/// The verdict of one workload of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ServerAnswer {
    pub server: Option<WorkloadKey>,
    pub port: u16,
    pub verdict: Verdict,
    pub by: Option<By>,
    pub tls: Tls,
}

/// Answers at `now`, in seconds since the Unix epoch.
///
/// # Errors
/// An unknown client, server or port, with what is known instead.
pub fn can(
    snapshot: &Snapshot,
    client: &Client,
    server: &Server,
    sent: &Sent,
    now: i64,
) -> Result<Answer, ExplainError> {
    let connections = connection::of(snapshot, client, server)?;
    let mut answers: Vec<Answer> =
        connections.iter().map(|connection| answer(snapshot, connection, client, sent, now)).collect();
    let summaries: Vec<ServerAnswer> = answers.iter().map(summary).collect();
    let worst = answers.iter().position(|one| one.verdict == Verdict::Deny).unwrap_or(0);
    let mut answer = answers.swap_remove(worst);
    if summaries.len() > 1 {
        answer.servers = summaries;
    }
    Ok(answer)
}

fn summary(answer: &Answer) -> ServerAnswer {
    ServerAnswer {
        server: answer.server.clone(),
        port: answer.port,
        verdict: answer.verdict,
        by: answer.by.clone(),
        tls: answer.tls,
    }
}

fn answer(snapshot: &Snapshot, to: &Connection<'_>, client: &Client, sent: &Sent, now: i64) -> Answer {
    let protocol = to.server.and_then(|it| compute::listed_ports::of(snapshot, it).get(&to.port).copied());
    let is_http = carries_http(protocol, sent) && !to.is_own_tls;
    let mut answer = Answer {
        verdict: Verdict::Allow,
        by: None,
        rule: None,
        reason: String::new(),
        tls: to.tls,
        asks: Vec::new(),
        server: to.server.map(|one| one.key()),
        port: to.port,
        protocol: if is_http { "HTTP" } else { "TCP" },
        principal: to.peer.clone(),
        policies: Vec::new(),
        servers: Vec::new(),
    };
    if let Some((by, why)) = &to.refused {
        answer.verdict = Verdict::Deny;
        answer.by = by.clone().map(By::Object);
        answer.reason = format!("the connection is refused before any policy: {why}");
        return answer;
    }
    let Some(workload) = to.server.filter(|one| compute::has_proxy(one)) else {
        "the server has no proxy of the mesh, so nothing there enforces policies"
            .clone_into(&mut answer.reason);
        return answer;
    };
    let access = compute::access::access(snapshot, workload);
    let source = sent.source.or_else(|| connection::address_of(snapshot, client, to.destination));
    let request = Request {
        peer: to.peer.clone(),
        source,
        destination: to.destination,
        port: to.port,
        server_name: server_name(to, sent),
        http: is_http.then(|| http(to, sent, access.paths)),
    };
    let given = (!sent.claims.is_empty()).then_some(Given(&sent.claims));
    let Judged { allowed, by, rule, reason, asks, policies } = access::judge(&access, request, given, now);
    answer.verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
    (answer.by, answer.rule, answer.asks, answer.policies) = (by, rule, asks, policies);
    answer.reason = match answer.asks.is_empty() {
        true => reason,
        false => format!("{reason}; the authorizer {} is asked first", answer.asks.join(", ")),
    };
    answer
}

/// What the server's proxy takes it for (Z42): by the declared protocol, else by what is sent.
fn carries_http(protocol: Option<Protocol>, sent: &Sent) -> bool {
    match protocol {
        Some(Protocol::Tcp | Protocol::Tls) => false,
        Some(Protocol::Http | Protocol::Http2) => sent.http.unwrap_or(true),
        Some(Protocol::Undeclared) | None => sent.http.unwrap_or(sent.method.is_some()),
    }
}

/// Plaintext has none. A client of the mesh sends that of the Service.
fn server_name(to: &Connection<'_>, sent: &Sent) -> Option<String> {
    let name = sent.server_name.clone().or_else(|| to.server_name.clone());
    name.filter(|_| to.tls == Tls::Mutual)
}

fn http(to: &Connection<'_>, sent: &Sent, paths: eastwest_model::mesh::PathNormalization) -> HttpRequest {
    let line = RequestLine {
        method: sent.method.clone().unwrap_or_else(|| "GET".to_owned()),
        path: sent.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
        authority: sent.host.clone().unwrap_or_else(|| to.authority.clone()),
    };
    HttpRequest::new(line, &sent.headers, to.peer.as_ref(), to.tls == Tls::Mutual, paths)
}

/// Why a connection is refused before any policy, and the object that decided it.
type Refused = (Option<ObjectRef>, String);
