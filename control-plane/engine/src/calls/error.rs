//! Why a call cannot be explained.

use eastwest_model::{Host, Name, WorkloadKey};
use thiserror::Error;

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
    /// A name below a headless Service that none of its pods has.
    #[error("no pod {pod:?} is known below the headless Service {host}; {}", pods(.known))]
    UnknownPod {
        /// The first label of the name.
        pod: String,
        /// The headless Service.
        host: Host,
        /// The names of its pods.
        known: Vec<String>,
    },
    /// The service has no such port.
    #[error("{host} has no port {port}; {}{hint}", list(.known))]
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
    /// No port of that name is known there.
    #[error("{asked} has no port named {name:?}; {}{hint}", named(.known))]
    UnknownPortName {
        /// The host or address as asked for.
        asked: String,
        /// The name of the port.
        name: Name,
        /// The ports it has, with their names.
        known: Vec<(u16, Name)>,
        /// A port that was probably meant.
        hint: String,
    },
}

/// How many pods a message lists.
const MAX_PODS: usize = 10;

fn pods(names: &[String]) -> String {
    match names {
        [] => "it has none here".to_owned(),
        [.., last] if names.len() > MAX_PODS => {
            format!("its {} pods are {} to {last}", names.len(), names[0])
        }
        names => format!("its pods are {}", names.join(", ")),
    }
}

fn suggest(similar: &[Host]) -> String {
    let names: Vec<&str> = similar.iter().map(Host::as_str).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

fn named(ports: &[(u16, Name)]) -> String {
    let one = |(number, name): &(u16, Name)| match &**name {
        "" => number.to_string(),
        name => format!("{number} ({name})"),
    };
    match ports {
        [] => "nothing is known of its ports: write the number".to_owned(),
        ports => format!("its ports are {}", ports.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

fn list(ports: &[u16]) -> String {
    if ports.is_empty() {
        return "it has no ports: add some to its spec.ports".to_owned();
    }
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    format!("its service ports are {}", ports.join(", "))
}
