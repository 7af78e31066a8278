//! Connections that fail, and plaintext to servers that would accept mutual TLS: one finding for each object that
//! decided and each problem, for all clients and endpoints that have it.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{Diagnostic, Name, ObjectRef, Origin, policy::MutualTlsMode};

use super::warning;
use crate::{
    ClientScope, Snapshot,
    compute::{credentials, registry::View},
    explain::EndpointExplanation,
    pair::ConnectionOutcome,
    settings::OutboundCluster,
};

/// Problems by the object that decided and by their description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ConnectionProblems(BTreeMap<(ObjectRef, String), Occurrences>);

/// Where a problem occurs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Occurrences {
    origin: Origin,
    clients: BTreeSet<Name>,
    /// Host, port and subset with one of the endpoints.
    targets: BTreeMap<String, String>,
}

impl ConnectionProblems {
    /// Adds what is wrong between the clients of a scope and the endpoints of a cluster.
    pub(super) fn add(
        &mut self,
        snapshot: &Snapshot,
        scope: &ClientScope,
        view: &View<'_>,
        cluster: &OutboundCluster,
        endpoints: &[EndpointExplanation],
    ) {
        // A missing credential is a finding of its own.
        if credentials::withheld(&cluster.trace).is_some() {
            return;
        }
        for endpoint in endpoints {
            let Some(problem) = problem(snapshot, endpoint) else { continue };
            let server = endpoint.pair.server.policy.as_ref();
            let decider = cluster.policy.as_ref().or(server).unwrap_or(&view.owner.object);
            let entry = self.0.entry((decider.clone(), problem)).or_default();
            entry.origin = origin_of(cluster, view, endpoint, decider);
            entry.clients.insert(scope.namespace().clone());
            entry.targets.entry(target(cluster)).or_insert_with(|| endpoint.address.clone());
        }
    }

    /// Adds the problems of another host.
    pub(super) fn merge(&mut self, other: &Self) {
        for (key, problem) in &other.0 {
            let entry = self.0.entry(key.clone()).or_default();
            entry.origin = problem.origin.clone();
            entry.clients.extend(problem.clients.iter().cloned());
            entry.targets.extend(problem.targets.iter().map(|(target, at)| (target.clone(), at.clone())));
        }
    }

    /// The findings.
    pub(super) fn findings(self) -> impl Iterator<Item = Diagnostic> {
        self.0.into_iter().filter_map(|((decider, problem), place)| {
            let (target, address) = place.targets.first_key_value()?;
            let more = match place.targets.len() {
                1 => String::new(),
                several => format!(" and {} more", several - 1),
            };
            let clients: Vec<&str> = place.clients.iter().map(|name| &**name).collect();
            let message = format!(
                "{target}{more}, for example at {address}: clients in {} {problem}",
                clients.join(", ")
            );
            Some(warning(&decider, &place.origin, "", message))
        })
    }
}

fn problem(snapshot: &Snapshot, endpoint: &EndpointExplanation) -> Option<String> {
    let takes_mutual = endpoint.pair.server.mode.is_some_and(|mode| mode != MutualTlsMode::Disable);
    match endpoint.pair.outcome {
        ConnectionOutcome::Refused => Some(format!("cannot connect: {}", endpoint.pair.reason)),
        ConnectionOutcome::Plaintext if takes_mutual && snapshot.mesh.enable_auto_mtls => {
            Some("send plaintext, although the server would take mutual TLS".to_owned())
        }
        _ => None,
    }
}

fn target(cluster: &OutboundCluster) -> String {
    let subset = cluster.subset.as_ref().map(|name| format!(" subset {name}")).unwrap_or_default();
    format!("{}:{}{subset}", cluster.host, cluster.port.number)
}

/// Where an object was read: the owner, or what either side's trace knows.
fn origin_of(
    cluster: &OutboundCluster,
    view: &View<'_>,
    endpoint: &EndpointExplanation,
    object: &ObjectRef,
) -> Origin {
    let mut steps = cluster.trace.steps().chain(&endpoint.pair.server.trace);
    let step = steps.find(|step| step.object.as_ref() == Some(object));
    let owner = (view.owner.object == *object).then_some(&view.owner.origin);
    step.and_then(|step| step.origin.as_ref()).or(owner).cloned().unwrap_or_default()
}
