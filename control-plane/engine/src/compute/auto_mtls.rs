//! The setting where no rule has a `tls` block: auto mutual TLS (POLICY.md A1 to A8).

use eastwest_model::{
    Name,
    policy::{ClientTlsMode, MutualTlsMode},
};

use super::{
    endpoints::{Backend, Mark},
    peer_authentication as policies,
    registry::View,
};
use crate::{
    Snapshot,
    settings::Discovery,
    trace::{ClientTlsReason as Reason, Step},
};

/// The result of auto mutual TLS for a cluster.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Mutual TLS; to all endpoints or to the marked ones, as the cluster is discovered (A3, A5).
    Mutual,
    /// Plaintext; the step names the policy that forbids mutual TLS, if one does.
    Plaintext(Step),
}

impl Verdict {
    fn inferred(reason: Reason) -> Self {
        Self::Plaintext(Step::inferred(reason))
    }
}

/// A1, A2 and A5, in this order; `passthrough` is the general load balancer of the rule, or of the subset.
pub(crate) fn verdict(
    snapshot: &Snapshot,
    view: &View<'_>,
    passthrough: bool,
    backends: &[&Backend],
) -> Verdict {
    if view.external {
        return Verdict::inferred(Reason::External);
    }
    if !snapshot.mesh.enable_auto_mtls {
        return Verdict::inferred(Reason::AutoDisabled);
    }
    if (view.discovery == Discovery::OriginalDst || passthrough)
        && let Some(reason) = outsider(backends)
    {
        return Verdict::inferred(reason);
    }
    by_namespace_policy(snapshot, view.namespace())
}

/// A5: all or nothing. Every endpoint of the port counts, of all subsets, ready or not.
fn outsider(backends: &[&Backend]) -> Option<Reason> {
    if backends.is_empty() {
        return Some(Reason::PassthroughUnknown);
    }
    let outside = backends.iter().find(|backend| backend.mark == Mark::Disabled)?;
    Some(Reason::PassthroughOutside { address: outside.address.clone() })
}

/// A2: only the namespace or mesh policy of the service's namespace counts; A7: never the client's own.
fn by_namespace_policy(snapshot: &Snapshot, namespace: &Name) -> Verdict {
    match policies::choose_general(snapshot, namespace).mode() {
        (MutualTlsMode::Disable, Some(policy)) => {
            let reason = Reason::NamespaceDisabled { namespace: namespace.clone() };
            Verdict::Plaintext(Step::of(&policy.meta, reason))
        }
        _ => Verdict::Mutual,
    }
}

/// A4 and A6: whether an endpoint is marked for mutual TLS.
pub(crate) fn is_marked(
    snapshot: &Snapshot,
    namespace: &Name,
    backend: &Backend,
    marking_mode: Option<ClientTlsMode>,
) -> bool {
    backend.mark == Mark::Istio
        && match marking_mode {
            Some(mode) => mode == ClientTlsMode::IstioMutual,
            None => {
                let chosen = policies::choose(snapshot, namespace, &backend.labels);
                chosen.mode_of_port(backend.port()).0 != MutualTlsMode::Disable
            }
        }
}
