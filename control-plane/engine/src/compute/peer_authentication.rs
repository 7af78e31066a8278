//! Which PeerAuthentications decide for a workload, and what they say (POLICY.md P1 to P7).

use std::sync::Arc;

use eastwest_model::{
    Labels,
    policy::{MutualTlsMode, PeerAuthentication},
};

use crate::{
    Snapshot,
    trace::{Level, PeerAuthenticationReason as Reason, Step, Trace},
};

/// The one policy of each level that counts for a workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chosen<'a> {
    mesh: Option<&'a Arc<PeerAuthentication>>,
    namespace: Option<&'a Arc<PeerAuthentication>>,
    workload: Option<&'a Arc<PeerAuthentication>>,
}

/// P1 and P2: the policies of the namespace and of the root namespace that match the labels of a workload, each with
/// its level. P3: one with a selector in the root namespace has none.
fn candidates<'a>(
    snapshot: &'a Snapshot,
    namespace: &'a str,
    labels: &'a Labels,
) -> impl Iterator<Item = (&'a Arc<PeerAuthentication>, Option<Level>)> {
    let root = &*snapshot.mesh.root_namespace;
    let spaces = [Some(namespace), Some(root).filter(|root| *root != namespace)];
    let policies = spaces.into_iter().flatten().flat_map(move |space| {
        let policies = snapshot.namespace(space).peer_authentications.values();
        policies.map(move |policy| (policy, space == root))
    });
    policies.filter(|(policy, _)| policy.selector.matches(labels)).map(|(policy, in_root)| {
        let level = match (policy.selector.is_empty(), in_root) {
            (true, true) => Some(Level::Mesh),
            (true, false) => Some(Level::Namespace),
            (false, false) => Some(Level::Workload),
            (false, true) => None,
        };
        (policy, level)
    })
}

/// P4: of the candidates, the oldest of each level, ties by name. Content is not looked at (P5).
pub(crate) fn choose<'a>(snapshot: &'a Snapshot, namespace: &'a str, labels: &'a Labels) -> Chosen<'a> {
    let mut chosen = Chosen::default();
    for (policy, level) in candidates(snapshot, namespace, labels) {
        let Some(level) = level else { continue };
        let oldest = chosen.of_level_mut(level);
        if oldest.is_none_or(|oldest| policy.meta.age_key() < oldest.meta.age_key()) {
            *oldest = Some(policy);
        }
    }
    chosen
}

/// The namespace and mesh level alone, which is all that clients look at (A2).
pub(crate) fn choose_general<'a>(snapshot: &'a Snapshot, namespace: &'a str) -> Chosen<'a> {
    static NO_LABELS: Labels = Labels::new();
    choose(snapshot, namespace, &NO_LABELS)
}

/// A mode with the policy that decided it; no policy = the built-in PERMISSIVE.
pub(crate) type Decided<'a> = (MutualTlsMode, Option<&'a Arc<PeerAuthentication>>);

/// P7: what the workload policy says about a container port.
enum PortEntry<'a> {
    /// It sets the mode of the port.
    Decides(MutualTlsMode, &'a Arc<PeerAuthentication>),
    /// It names the port without a mode, which leaves the workload's.
    Inherits(&'a Arc<PeerAuthentication>),
    /// It does not name the port.
    Absent,
}

impl<'a> Chosen<'a> {
    fn of_level(&self, level: Level) -> Option<&'a Arc<PeerAuthentication>> {
        match level {
            Level::Mesh => self.mesh,
            Level::Namespace => self.namespace,
            Level::Workload => self.workload,
        }
    }

    fn of_level_mut(&mut self, level: Level) -> &mut Option<&'a Arc<PeerAuthentication>> {
        match level {
            Level::Mesh => &mut self.mesh,
            Level::Namespace => &mut self.namespace,
            Level::Workload => &mut self.workload,
        }
    }

    /// P6: from PERMISSIVE, each level overwrites the one above unless it is UNSET.
    pub(crate) fn mode(&self) -> Decided<'a> {
        [self.workload, self.namespace, self.mesh]
            .into_iter()
            .flatten()
            .find_map(|policy| policy.mode.map(|mode| (mode, Some(policy))))
            .unwrap_or((MutualTlsMode::Permissive, None))
    }

    /// P7: no other policy's ports count.
    fn port_entry(&self, port: u16) -> PortEntry<'a> {
        let Some(policy) = self.workload else { return PortEntry::Absent };
        match policy.ports.get(&port) {
            Some(Some(mode)) => PortEntry::Decides(*mode, policy),
            Some(None) => PortEntry::Inherits(policy),
            None => PortEntry::Absent,
        }
    }

    /// The mode of a container port.
    pub(crate) fn mode_of_port(&self, port: u16) -> Decided<'a> {
        match self.port_entry(port) {
            PortEntry::Decides(mode, policy) => (mode, Some(policy)),
            PortEntry::Inherits(_) | PortEntry::Absent => self.mode(),
        }
    }

    /// How the mode of a container port was decided, given how the workload's was.
    pub(crate) fn trace_of_port(&self, port: u16, workload: &Arc<[Step]>) -> Trace {
        let step = |policy: &PeerAuthentication, reason| -> Arc<[Step]> {
            Arc::from([Step::of(&policy.meta, reason)])
        };
        match self.port_entry(port) {
            PortEntry::Decides(mode, policy) => {
                Trace::new(step(policy, Reason::PortDecides { port, mode }), Arc::default())
            }
            PortEntry::Inherits(policy) => {
                Trace::new(step(policy, Reason::PortInherits { port }), Arc::clone(workload))
            }
            PortEntry::Absent => Trace::new(Arc::clone(workload), Arc::default()),
        }
    }

    /// The container ports that the workload policy names.
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.workload.into_iter().flat_map(|policy| policy.ports.keys().copied())
    }

    /// What became of every candidate, in order, of the namespace and labels for which this was chosen.
    pub(crate) fn steps(&self, snapshot: &Snapshot, namespace: &str, labels: &Labels) -> Arc<[Step]> {
        let (_, decider) = self.mode();
        let looked_at = candidates(snapshot, namespace, labels);
        let steps =
            looked_at.map(|(policy, level)| Step::of(&policy.meta, self.reason(policy, level, decider)));
        let built_in = decider.is_none().then(|| Step::inferred(Reason::BuiltIn));
        steps.chain(built_in).collect()
    }

    /// What became of one candidate; `decider` sets the mode.
    fn reason(
        &self,
        policy: &Arc<PeerAuthentication>,
        level: Option<Level>,
        decider: Option<&Arc<PeerAuthentication>>,
    ) -> Reason {
        let Some(level) = level else { return Reason::SelectorInRootNamespace };
        if let Some(winner) = self.of_level(level).filter(|winner| !Arc::ptr_eq(winner, policy)) {
            return Reason::Younger { level, winner: winner.meta.object.clone() };
        }
        match (policy.mode, decider) {
            (Some(mode), Some(decider)) if !Arc::ptr_eq(decider, policy) => {
                Reason::LevelOverwritten { level, mode, winner: decider.meta.object.clone() }
            }
            (Some(mode), _) => Reason::LevelDecides { level, mode },
            (None, _) => Reason::LevelInherits { level },
        }
    }
}
