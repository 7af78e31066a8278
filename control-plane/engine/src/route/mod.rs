//! Where a request goes, and how (`eastwest route`): read from the listeners and routes that the client's proxy is given.

mod policy;

use std::time::Duration;

use eastwest_model::{WorkloadKey, policy::RetryPolicy};
use serde::Serialize;

use crate::{
    ClientScope, Snapshot,
    calls::Caller,
    compute,
    explain::ExplainError,
    listeners::{Call, FirstBytes, Reached, Resolved},
    settings::{Discovery, OutboundCluster},
};

pub use policy::PolicyInForce;

/// What an application sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it begins.
    pub scheme: Scheme,
    /// The name or address that it dials; for TLS the server name too.
    pub host: String,
    /// The port that it dials.
    pub port: u16,
    /// Its Host header, if that is not the host.
    pub authority: Option<String>,
    /// Its method.
    pub method: String,
    /// Its path with the query.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

/// How a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A request of HTTP in plaintext.
    Http,
    /// A TLS handshake.
    Tls,
    /// Any other bytes.
    Tcp,
}

/// Where a request goes, and how. `null` = nothing set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The client.
    pub client: WorkloadKey,
    /// Whether the client has a proxy of the mesh; without one it sends its request to the address itself.
    pub client_in_mesh: bool,
    /// The client's listener that takes the connection, and its filter chain.
    pub listener: String,
    /// See `listener`.
    pub chain: String,
    /// For HTTP by routes: the virtual host.
    pub virtual_host: Option<String>,
    /// The route of a VirtualService: none is in force yet.
    pub route: Option<String>,
    /// See `route`.
    pub virtual_service: Option<String>,
    /// See `route`.
    pub r#match: Option<usize>,
    /// What the client's own proxy answers in the destination's place.
    pub status: Option<u16>,
    /// The clusters, with their shares.
    pub destinations: Vec<Destination>,
    /// What the client's own proxy is told to answer.
    pub direct_response: Option<DirectResponse>,
    /// The time limit for all tries.
    pub timeout: Option<String>,
    /// What is tried again; `null` = nothing.
    pub retries: Option<Retries>,
    /// The policy of a destination.
    pub policy: Option<PolicyInForce>,
}

/// A cluster that gets a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Its name.
    pub cluster: String,
    /// Its share, relative to the sum of all.
    pub weight: u32,
}

/// An answer of the client's own proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirectResponse {
    /// Its status.
    pub status: u32,
    /// Its body.
    pub body: Option<String>,
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// How often at most.
    pub attempts: u32,
    /// How long each time may take.
    pub per_try_timeout: Option<String>,
    /// After what.
    pub on: String,
    /// After which status codes.
    pub codes: Vec<u32>,
    /// The least time in between.
    pub backoff: Option<String>,
    /// Hosts that were tried are passed over.
    pub ignore_previous_hosts: bool,
    /// Localities that were tried are passed over.
    pub remote_localities: bool,
}

impl Retries {
    fn of(policy: &RetryPolicy) -> Option<Self> {
        (policy.attempts > 0).then(|| Self {
            attempts: policy.attempts,
            per_try_timeout: policy.per_try_timeout.map(go),
            on: policy.on.to_string(),
            codes: policy.codes.clone(),
            backoff: policy.backoff.map(go),
            ignore_previous_hosts: policy.ignore_previous_hosts.unwrap_or(true),
            // Localities are not known.
            remote_localities: false,
        })
    }
}

/// Says where a request of a workload goes, and how.
///
/// # Errors
/// An unknown client, or a name below a headless Service that no pod has.
pub fn route(snapshot: &Snapshot, client: &WorkloadKey, request: &Request) -> Result<Answer, ExplainError> {
    let workload = snapshot.workload(client).ok_or_else(|| ExplainError::UnknownClient(client.clone()))?;
    let scope = ClientScope::of(snapshot, workload);
    let outbound = compute::outbound(snapshot, &scope);
    let caller = Caller::new(snapshot, &scope, &outbound);
    let addresses = caller.addresses_of(&request.host, request.port)?;
    let call = Call {
        address: addresses.first().copied().flatten(),
        port: request.port,
        first_bytes: request.first_bytes(),
    };
    let resolved = caller.resolve(&call);
    Ok(Answer { client_in_mesh: compute::has_proxy(workload), ..answer(client, request, &resolved) })
}

fn answer(client: &WorkloadKey, request: &Request, resolved: &Resolved<'_>) -> Answer {
    let mut answer = Answer {
        client: client.clone(),
        client_in_mesh: true,
        listener: resolved.listener.clone(),
        chain: resolved.chain.clone(),
        virtual_host: resolved.virtual_host.clone(),
        route: None,
        virtual_service: None,
        r#match: None,
        status: None,
        destinations: Vec::new(),
        direct_response: None,
        timeout: None,
        retries: resolved.sending.and_then(|sending| Retries::of(sending.retries)),
        policy: None,
    };
    match resolved.to {
        Reached::Answered(status) => answer.direct_response = Some(DirectResponse { status, body: None }),
        to => answer.destinations = vec![Destination { cluster: to.cluster_name(), weight: 100 }],
    }
    if let Reached::Cluster(cluster) = resolved.to {
        let is_request = request.scheme == Scheme::Http && resolved.sending.is_some();
        answer.status = Some(503).filter(|_| is_request && has_nobody(cluster));
        answer.policy = Some(PolicyInForce::of(cluster, resolved));
    }
    answer
}

/// Nobody is there to take requests.
fn has_nobody(cluster: &OutboundCluster) -> bool {
    matches!(cluster.discovery, Discovery::Eds | Discovery::StrictDns | Discovery::LogicalDns)
        && !cluster.endpoints.iter().any(|endpoint| endpoint.ready)
}

impl Request {
    fn first_bytes(&self) -> FirstBytes {
        match self.scheme {
            Scheme::Http => FirstBytes::Http { authority: self.authority() },
            Scheme::Tls => {
                let is_name = crate::calls::address(&self.host).is_none();
                FirstBytes::Tls { server_name: is_name.then(|| self.host.clone()) }
            }
            Scheme::Tcp => FirstBytes::Other,
        }
    }

    /// Its Host header: clients leave the port of HTTP out.
    pub fn authority(&self) -> String {
        self.authority.clone().unwrap_or_else(|| crate::calls::authority(&self.host, self.port))
    }
}

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `30ms`, `0s`.
pub(crate) fn go(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let fraction = |whole: u64, nanos: u32, digits: usize| {
        let text = format!("{whole}.{nanos:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match (seconds, nanos) {
        (0, 0) => "0s".to_owned(),
        (0, nanos) if nanos < 1_000 => format!("{nanos}ns"),
        (0, nanos) if nanos < 1_000_000 => {
            format!("{}µs", fraction((nanos / 1_000).into(), nanos % 1_000, 3))
        }
        (0, nanos) => format!("{}ms", fraction((nanos / 1_000_000).into(), nanos % 1_000_000, 6)),
        (seconds, nanos) => {
            let rest = fraction(seconds % 60, nanos, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_by_go() {
        for (micros, text) in [
            (0, "0s"),
            (30_000, "30ms"),
            (1_500, "1.5ms"),
            (7, "7µs"),
            (1_500_000, "1.5s"),
            (75_000_000, "1m15s"),
            (300_000_000, "5m0s"),
            (3_600_000_000, "1h0m0s"),
            (3_661_050_000, "1h1m1.05s"),
        ] {
            assert_eq!(go(Duration::from_micros(micros)), text);
        }
    }
}
