//! What the configuration says and does not do: objects that lose, rules without effect, unintended plaintext, and
//! connections that fail. Mistakes inside one object are found by its parser; these findings need the whole mesh.

mod access;
mod calls;
mod inbound;
mod outbound;
mod problems;
mod references;
mod subsets;
mod taken;
mod undeclared;
mod unused;

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{Diagnostic, Effect, Host, ObjectRef, Origin, Severity, Workload};

use self::{problems::ConnectionProblems, undeclared::Undeclared};
use crate::{
    ClientScope, Hosts, Snapshot,
    calls::Caller,
    compute,
    settings::{Inbound, Outbound},
    trace::{Step, StepOutcome},
};

/// The objects that win over an object for some workloads or clients, by its name `Kind/namespace/name`.
pub type Overridden = BTreeMap<String, BTreeSet<ObjectRef>>;

/// Every finding about the mesh, sorted, each one once. See [`analyse`].
pub fn diagnostics(snapshot: &Snapshot) -> Vec<Diagnostic> {
    analyse(snapshot).0
}

/// Every finding about the mesh, sorted, each one once; and who wins over the objects that are in force elsewhere.
///
/// It computes the settings of every workload and of every client scope, one after the other. Use it for commands, not
/// for each change.
pub fn analyse(snapshot: &Snapshot) -> (Vec<Diagnostic>, Overridden) {
    let mut overridden = Overridden::new();
    let mut findings = BTreeSet::new();
    let mut scopes = BTreeSet::new();
    let mut counted = BTreeSet::new();
    let mut undeclared = Undeclared::default();
    let mut accepted = access::Accepted::default();
    for workload in snapshot.workloads().filter(|workload| !workload.ended) {
        let inbound = compute::inbound(snapshot, workload);
        counted.extend(inbound::counted(&inbound).cloned());
        findings.extend(inbound::findings(snapshot, workload, &inbound));
        undeclared.note(snapshot, workload, &inbound);
        accepted.note(workload, &inbound);
        note_losers(&mut overridden, inbound.trace.steps());
        scopes.insert(ClientScope::of(snapshot, workload));
    }
    let mut problems = ConnectionProblems::default();
    let mut used = BTreeSet::new();
    for scope in &scopes {
        let settings = compute::outbound(snapshot, scope);
        findings.extend(calls::findings(&Caller::new(snapshot, scope, &settings)));
        for service in settings.services.values() {
            findings.extend(outbound::findings(snapshot, scope, service, &mut problems));
            findings.extend(subsets::findings(snapshot, service));
        }
        used.extend(outbound::used(&settings).cloned());
        note_losers(&mut overridden, outbound::steps(&settings));
    }
    findings.extend(undeclared.findings());
    findings.extend(access::findings(snapshot, &accepted));
    findings.extend(references::findings(snapshot));
    findings.extend(taken::findings(snapshot));
    let unused = unused::findings(snapshot, (!scopes.is_empty()).then_some(&used), &findings);
    findings.extend(unused);
    findings.extend(problems.findings());
    counted.extend(used);
    let counted: BTreeSet<String> = counted.iter().map(ToString::to_string).collect();
    overridden.retain(|object, _| counted.contains(object));
    (findings.into_iter().map(|finding| partial(finding, &counted)).collect(), overridden)
}

/// Notes the objects that lose, with those that win.
fn note_losers<'a>(overridden: &mut Overridden, steps: impl Iterator<Item = &'a Step>) {
    for step in steps.filter(|step| step.outcome() == StepOutcome::Lost) {
        if let (Some(object), Some(winner)) = (&step.object, step.beaten_by()) {
            overridden.entry(object.to_string()).or_default().insert(winner.clone());
        }
    }
}

/// An object that loses for one workload or client may be in force for another one. All findings about an object are
/// treated alike, so that their order stays.
fn partial(finding: Diagnostic, counted: &BTreeSet<String>) -> Diagnostic {
    let effect = finding.effect.filter(|_| !counted.contains(&finding.object));
    Diagnostic { effect, ..finding }
}

pub(crate) use calls::findings as of_calls;
pub(crate) use inbound::without_proxy as of_proxy;

/// What concerns one workload, as server and as client.
pub fn of_workload(
    snapshot: &Snapshot,
    workload: &Workload,
    inbound: &Inbound,
    clients: &ClientFindings,
) -> Vec<Diagnostic> {
    let mut findings = clients.findings();
    findings.extend(inbound::findings(snapshot, workload, inbound));
    findings.into_iter().collect()
}

/// What concerns the clients of a scope, host by host, so that a change costs the hosts that it touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFindings(BTreeMap<Host, HostFindings>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct HostFindings {
    found: Vec<Diagnostic>,
    problems: ConnectionProblems,
}

impl ClientFindings {
    /// Looks at every host.
    pub fn of(snapshot: &Snapshot, scope: &ClientScope, outbound: &Outbound) -> Self {
        let mut all = Self::default();
        all.renew(snapshot, scope, outbound, &Hosts::All);
        all
    }

    /// Looks at some hosts again; returns whether anything differs now.
    pub fn renew(
        &mut self,
        snapshot: &Snapshot,
        scope: &ClientScope,
        outbound: &Outbound,
        hosts: &Hosts,
    ) -> bool {
        let hosts: BTreeSet<Host> = match hosts {
            Hosts::All => outbound.services.keys().chain(self.0.keys()).cloned().collect(),
            Hosts::Some(hosts) => hosts.clone(),
        };
        let mut changed = false;
        for host in hosts {
            let mut next = HostFindings::default();
            if let Some(service) = outbound.services.get(&host) {
                next.found = outbound::findings(snapshot, scope, service, &mut next.problems);
                next.found.extend(outbound::withheld_credentials(service));
            }
            let before = match next == HostFindings::default() {
                true => self.0.remove(&host),
                false => self.0.insert(host.clone(), next),
            };
            changed |= before.as_ref() != self.0.get(&host);
        }
        changed
    }

    fn findings(&self) -> BTreeSet<Diagnostic> {
        let mut problems = ConnectionProblems::default();
        self.0.values().for_each(|host| problems.merge(&host.problems));
        let found = self.0.values().flat_map(|host| host.found.iter().cloned());
        found.chain(problems.findings()).collect()
    }
}

/// A warning about an object.
fn warning(object: &ObjectRef, origin: &Origin, field: &str, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        object: object.to_string(),
        origin: origin.clone(),
        field: field.to_owned(),
        message,
        beaten_by: None,
        effect: None,
    }
}

/// The same finding as one that means that the whole object has no effect.
fn without_effect(finding: Diagnostic, effect: Effect) -> Diagnostic {
    Diagnostic { effect: Some(effect), ..finding }
}

/// A warning out of a step of a trace.
fn of_step(step: &Step, field: &str) -> Option<Diagnostic> {
    let object = step.object.as_ref()?;
    let origin = step.origin.clone().unwrap_or_default();
    let message = format!("{} (rule {})", step.reason, step.rule());
    Some(Diagnostic { beaten_by: step.beaten_by().cloned(), ..warning(object, &origin, field, message) })
}
