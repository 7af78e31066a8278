//! What the configuration says and does not do: losers, rules without effect, plaintext by accident, and pairs that
//! cannot talk. Mistakes inside one object are found while it is read; here is what only the whole world shows.

mod inbound;
mod misfits;
mod outbound;
mod unused;

use std::collections::BTreeSet;

use eastwest_model::{Diagnostic, ObjectRef, Origin, Severity, Workload};

use self::misfits::Misfits;
use crate::{
    ClientScope, Snapshot, compute,
    settings::{Inbound, Outbound},
    trace::Step,
};

/// Every finding about the world, sorted, each one once.
///
/// It computes the settings of every workload and, one after the other, of every client scope; meant for people, not
/// for each change.
pub fn diagnostics(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut findings = BTreeSet::new();
    let mut scopes = BTreeSet::new();
    for workload in snapshot.workloads().filter(|workload| !workload.ended) {
        findings.extend(inbound::findings(snapshot, workload, &compute::inbound(snapshot, workload)));
        scopes.insert(ClientScope::of(snapshot, workload));
    }
    let mut misfits = Misfits::default();
    let mut used = BTreeSet::new();
    for scope in &scopes {
        let settings = compute::outbound(snapshot, scope);
        findings.extend(outbound::findings(snapshot, scope, &settings, &mut misfits));
        used.extend(outbound::used(&settings).cloned());
    }
    let used = (!scopes.is_empty()).then_some(&used);
    let unused = unused::findings(snapshot, used, &findings);
    findings.extend(unused);
    findings.extend(misfits.findings());
    findings.into_iter().collect()
}

/// What concerns one workload, as server and as client.
pub(crate) fn of_workload(
    snapshot: &Snapshot,
    workload: &Workload,
    inbound: &Inbound,
    outbound: &Outbound,
) -> Vec<Diagnostic> {
    let scope = ClientScope::of(snapshot, workload);
    let mut findings: BTreeSet<_> = inbound::findings(snapshot, workload, inbound).into_iter().collect();
    let mut misfits = Misfits::default();
    findings.extend(outbound::findings(snapshot, &scope, outbound, &mut misfits));
    findings.extend(outbound::withheld_credentials(outbound));
    findings.extend(misfits.findings());
    findings.into_iter().collect()
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
    }
}

/// A warning out of a step of a trace.
fn of_step(step: &Step, field: &str) -> Option<Diagnostic> {
    let object = step.object.as_ref()?;
    let origin = step.origin.clone().unwrap_or_default();
    let message = format!("{} (rule {})", step.reason, step.rule);
    Some(Diagnostic { beaten_by: step.beaten_by.clone(), ..warning(object, &origin, field, message) })
}
