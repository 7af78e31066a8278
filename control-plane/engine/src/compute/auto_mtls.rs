//! What happens where no `tls` block speaks: auto mutual TLS (POLICY.md A1 to A8).

use eastwest_model::{
    Name,
    policy::{ClientTlsMode, MutualTlsMode},
};

use super::{
    endpoints::{Backend, Mark},
    peer_authentication as policies,
    registry::View,
};
use crate::{Snapshot, settings::Discovery, trace::Step};
use eastwest_model::ObjectRef;

/// What auto mutual TLS says of a cluster.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Mutual TLS; to all endpoints or to the marked ones, as the cluster is discovered (A3, A5).
    pub mutual: bool,
    /// The policy that forbids it, if one does.
    pub policy: Option<ObjectRef>,
    pub step: Step,
}

impl Verdict {
    fn plaintext(rule: &'static str, reason: impl Into<String>) -> Self {
        Self { mutual: false, policy: None, step: Step::inferred(rule, reason) }
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
        return Verdict::plaintext(
            "A1",
            "the host is outside the mesh (MESH_EXTERNAL) and no rule has a tls block",
        );
    }
    if !snapshot.mesh.enable_auto_mtls {
        return Verdict::plaintext("A0", "enableAutoMtls is false and no rule has a tls block");
    }
    if (view.discovery == Discovery::OriginalDst || passthrough)
        && let Some(reason) = outsider(backends)
    {
        return Verdict::plaintext("A5", reason);
    }
    by_namespace_policy(snapshot, view.namespace())
}

/// A5: all or nothing. Every endpoint of the port counts, of all subsets, ready or not.
fn outsider(backends: &[&Backend]) -> Option<String> {
    if backends.is_empty() {
        return Some(
            "traffic passes through to the original destination and no endpoint is known".to_owned(),
        );
    }
    let outside = backends.iter().find(|backend| backend.mark == Mark::Disabled)?;
    let address = outside.address.to_string();
    Some(format!("traffic passes through to the original destination and {address} is outside the mesh"))
}

/// A2: only the namespace or mesh policy of the service's namespace counts; A7: never the client's own.
fn by_namespace_policy(snapshot: &Snapshot, namespace: &str) -> Verdict {
    match policies::choose_general(snapshot, namespace).mode() {
        (MutualTlsMode::Disable, Some(policy)) => Verdict {
            mutual: false,
            policy: Some(policy.meta.object.clone()),
            step: Step::won(&policy.meta, "A2", format!("DISABLE for the whole of namespace {namespace}")),
        },
        _ => {
            let step = Step::inferred("A2", format!("namespace {namespace} takes mutual TLS"));
            Verdict { mutual: true, policy: None, step }
        }
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
