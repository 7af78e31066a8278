//! Which PeerAuthentications decide for a workload, and what they say (POLICY.md P1 to P7).

use std::sync::Arc;

use eastwest_model::{
    Labels, Name, ObjectRef,
    policy::{MutualTlsMode, PeerAuthentication},
};

use crate::{Snapshot, trace::Step};

/// The one policy of each level that counts for a workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen<'a> {
    pub mesh: Option<&'a Arc<PeerAuthentication>>,
    pub namespace: Option<&'a Arc<PeerAuthentication>>,
    pub workload: Option<&'a Arc<PeerAuthentication>>,
}

/// P1, P2 and P4: of the policies of the workload's own namespace and of the root namespace, the oldest of each
/// level. Names mean nothing, content is not looked at (P5).
pub(crate) fn choose<'a>(snapshot: &'a Snapshot, namespace: &str, labels: &Labels) -> Chosen<'a> {
    let workload = (namespace != &*snapshot.mesh.root_namespace).then(|| {
        // P3: policies with a selector in the root namespace are not even candidates there.
        oldest(snapshot, namespace, |policy| !policy.selector.is_empty() && policy.selector.matches(labels))
    });
    Chosen { workload: workload.flatten(), ..choose_general(snapshot, namespace) }
}

/// The namespace and mesh level alone, which is all that clients look at (A2).
pub(crate) fn choose_general<'a>(snapshot: &'a Snapshot, namespace: &str) -> Chosen<'a> {
    let root = &snapshot.mesh.root_namespace;
    let general = |policy: &PeerAuthentication| policy.selector.is_empty();
    Chosen {
        mesh: oldest(snapshot, root, general),
        namespace: (namespace != &**root).then(|| oldest(snapshot, namespace, general)).flatten(),
        workload: None,
    }
}

/// P4: the oldest, ties by name.
fn oldest<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    wanted: impl Fn(&PeerAuthentication) -> bool,
) -> Option<&'a Arc<PeerAuthentication>> {
    let policies = snapshot.namespace(namespace).peer_authentications.values();
    policies.filter(|policy| wanted(policy)).min_by_key(|policy| policy.meta.age_key())
}

/// A mode with the policy that decided it; no policy = the built-in PERMISSIVE.
pub(crate) type Decided<'a> = (MutualTlsMode, Option<&'a Arc<PeerAuthentication>>);

impl<'a> Chosen<'a> {
    /// P6: from PERMISSIVE, each level overwrites the one above unless it is UNSET.
    pub(crate) fn mode(&self) -> Decided<'a> {
        [self.workload, self.namespace, self.mesh]
            .into_iter()
            .flatten()
            .find_map(|policy| policy.mode.map(|mode| (mode, Some(policy))))
            .unwrap_or((MutualTlsMode::Permissive, None))
    }

    /// P7: the mode of a container port; an entry without a mode takes the workload's resolved one.
    pub(crate) fn mode_of_port(&self, port: u16) -> Decided<'a> {
        let entry = self.workload.and_then(|policy| Some((policy.ports.get(&port)?.as_ref()?, policy)));
        entry.map_or_else(|| self.mode(), |(mode, policy)| (*mode, Some(policy)))
    }

    /// How the mode of a container port was decided, given how the workload's was (P7).
    pub(crate) fn trace_of_port(&self, port: u16, workload_steps: &[Step]) -> Vec<Step> {
        let entry = self.workload.and_then(|policy| Some((policy, policy.ports.get(&port)?)));
        match entry {
            Some((policy, Some(mode))) => {
                let reason = format!("portLevelMtls of container port {port}: {mode}");
                vec![Step::won(&policy.meta, "P7", reason)]
            }
            Some((policy, None)) => {
                let reason =
                    format!("portLevelMtls of container port {port}: UNSET, takes the workload's mode");
                let own = Step::inherited(&policy.meta, "P7", reason);
                [own].into_iter().chain(workload_steps.iter().cloned()).collect()
            }
            None => workload_steps.to_vec(),
        }
    }

    /// The container ports that the chosen workload policy names (P7: no other policy's ports count).
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.workload.into_iter().flat_map(|policy| policy.ports.keys().copied())
    }
}

/// Every policy that might concern the workload and what became of it.
pub(crate) fn trace(snapshot: &Snapshot, namespace: &Name, labels: &Labels) -> Vec<Step> {
    let chosen = choose(snapshot, namespace, labels);
    let (_, decider) = chosen.mode();
    let decider = decider.map(|policy| &policy.meta.object);
    let root = &snapshot.mesh.root_namespace;
    let mut spaces = vec![namespace];
    if namespace != root {
        spaces.push(root);
    }
    let policies = spaces.iter().flat_map(|space| snapshot.namespace(space).peer_authentications.values());
    let mut steps: Vec<Step> =
        policies.filter_map(|policy| step(policy, &chosen, labels, root, decider)).collect();
    if decider.is_none() {
        steps.push(Step::inferred("P6", "no policy sets a mode: PERMISSIVE is built in"));
    }
    steps
}

fn step(
    policy: &Arc<PeerAuthentication>,
    chosen: &Chosen<'_>,
    labels: &Labels,
    root: &Name,
    decider: Option<&ObjectRef>,
) -> Option<Step> {
    let meta = &policy.meta;
    if !policy.selector.matches(labels) {
        return None;
    }
    let (level, winner) = if policy.selector.is_empty() {
        match meta.namespace() == root {
            true => ("mesh", chosen.mesh),
            false => ("namespace", chosen.namespace),
        }
    } else if meta.namespace() == root {
        let reason = "a policy with a selector in the root namespace is ignored, whatever it selects";
        return Some(Step::lost(meta, "P3", reason, None));
    } else {
        ("workload", chosen.workload)
    };
    let winner = winner.map(|policy| &policy.meta.object);
    if winner != Some(&meta.object) {
        let older = winner.map(ToString::to_string).unwrap_or_default();
        let reason = format!("ignored whole: {older} is the older policy of the {level} level");
        return Some(Step::lost(meta, "P4", reason, winner));
    }
    Some(match policy.mode {
        Some(mode) if decider == Some(&meta.object) => {
            Step::won(meta, "P6", format!("{level} level: {mode}"))
        }
        None => Step::inherited(meta, "P6", format!("{level} level: UNSET, inherits")),
        Some(mode) => {
            let reason = format!("{level} level: {mode}, overwritten by a narrower level");
            Step::lost(meta, "P6", reason, decider)
        }
    })
}
