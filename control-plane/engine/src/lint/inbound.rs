//! PeerAuthentications without the expected effect for a workload as a server.

use eastwest_model::{
    Diagnostic, Effect, Family, ObjectRef, Workload, policy::MutualTlsMode, service::TargetPort,
};

use super::{of_step, warning, without_effect};
use crate::{
    Snapshot,
    compute::{self, listed_ports},
    settings::Inbound,
    trace::{PeerAuthenticationReason, Reason, Step, StepOutcome},
};

/// Policies that lose, and port numbers that mean another port.
pub(super) fn findings(snapshot: &Snapshot, workload: &Workload, inbound: &Inbound) -> Vec<Diagnostic> {
    let losers = inbound.trace.steps().filter_map(|step| match &step.reason {
        Reason::PeerAuthentication(PeerAuthenticationReason::SelectorInRootNamespace) => {
            Some(without_effect(of_step(step, "spec.selector")?, Effect::None))
        }
        Reason::PeerAuthentication(PeerAuthenticationReason::Younger { .. }) => {
            Some(without_effect(of_step(step, "spec")?, Effect::Shadowed))
        }
        _ => None,
    });
    losers.chain(service_ports(snapshot, workload, inbound)).chain(one_family(workload, inbound)).collect()
}

/// L9: a STRICT Pod of both families of which only one is redirected to its proxy.
fn one_family(workload: &Workload, inbound: &Inbound) -> Option<Diagnostic> {
    let first = Family::of(*workload.addresses.first()?);
    let other = workload.addresses.iter().find(|address| Family::of(**address) != first)?;
    let modes = inbound.ports.values().map(|port| port.mode).chain([inbound.mode]);
    let is_strict = modes.into_iter().any(|mode| mode == MutualTlsMode::Strict);
    let message = format!(
        "has {other} beside {}, and its sidecar was injected without ISTIO_DUAL_STACK, so connections to {other} are not \
         redirected to its proxy and reach the application in plaintext, although the mode is STRICT: inject it again with \
         ISTIO_DUAL_STACK=true, or give it one family (rule L9)",
        workload.addresses.first()?,
    );
    let is_open = is_strict && workload.redirects_one_family;
    is_open.then(|| warning(&workload.meta.object, &workload.meta.origin, "spec.containers", message))
}

/// A workload without a proxy of the mesh, which no policy protects.
pub(crate) fn without_proxy(workload: &Workload) -> Option<Diagnostic> {
    let (mark, field) = match workload.meta.object.kind.has_template() {
        true => {
            ("sidecar.istio.io/inject: \"true\" marks a template of Pods", "spec.template.metadata.labels")
        }
        false => ("security.istio.io/tlsMode=istio marks a workload", "metadata.labels"),
    };
    let message = format!(
        "has no proxy of the mesh, so no mode is enforced, and it takes and sends plaintext: the label {mark} with a proxy \
         (rule P9)"
    );
    let finding = || warning(&workload.meta.object, &workload.meta.origin, field, message);
    (!compute::has_proxy(workload)).then(finding)
}

/// The policies that count for a workload. One that a narrower level overwrites counts: it is the default of its level.
pub(super) fn counted(inbound: &Inbound) -> impl Iterator<Item = &ObjectRef> {
    let counts = |step: &&Step| {
        step.outcome() != StepOutcome::Lost
            || matches!(
                step.reason,
                Reason::PeerAuthentication(PeerAuthenticationReason::LevelOverwritten { .. })
            )
    };
    inbound.trace.steps().filter(counts).filter_map(|step| step.object.as_ref())
}

/// P8: `portLevelMtls` keyed by a Service port that leads to another container port.
fn service_ports(snapshot: &Snapshot, workload: &Workload, inbound: &Inbound) -> Vec<Diagnostic> {
    let space = snapshot.namespace(workload.meta.namespace());
    let named = inbound.ports.iter().filter(|(_, port)| port.named_by_policy && port.listed.is_none());
    let mut found = Vec::new();
    for (number, port) in named {
        if workload.container_ports.iter().any(|one| one.port == *number) {
            continue;
        }
        let Some(policy) = port.trace.steps().find(|step| step.rule() == "P7") else { continue };
        for service in space.services.selecting(&workload.meta.labels) {
            let Some(meant) = service.ports.iter().find(|one| one.number == *number) else { continue };
            let target = match (listed_ports::target_port(workload, meant), &meant.target) {
                (Some(number), _) => number.to_string(),
                (None, TargetPort::Number(number)) => number.to_string(),
                (None, TargetPort::Named(name)) => format!("{name:?}"),
            };
            let message = format!(
                "its keys are numbers of container ports, and {number} is a port of {}: write {target} (rule P8)",
                service.meta.object
            );
            found.extend(of_policy(policy, *number, message));
        }
    }
    found
}

fn of_policy(step: &Step, port: u16, message: String) -> Option<Diagnostic> {
    let origin = step.origin.clone().unwrap_or_default();
    Some(warning(step.object.as_ref()?, &origin, &format!("spec.portLevelMtls.{port}"), message))
}
