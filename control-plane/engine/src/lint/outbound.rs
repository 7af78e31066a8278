//! DestinationRules without the expected effect for the clients of a scope, and connections that fail.

use std::collections::BTreeSet;

use eastwest_model::{
    Diagnostic, Effect, Kind, ObjectRef, Origin,
    policy::{DestinationRule, TrafficPolicy},
};

use super::{of_step, problems::ConnectionProblems, warning, without_effect};
use crate::{
    ClientScope, Snapshot,
    compute::{
        endpoints::{self, Backend, Mark},
        registry::{self, View},
    },
    explain,
    settings::{Discovery, Outbound, OutboundCluster, OutboundService},
    trace::{ClientTlsReason, CredentialReason, DestinationRuleReason as Rule, Reason, Step, StepOutcome},
};

/// Everything about one host and the clients of a scope; connections that fail are added to `problems`.
pub(super) fn findings(
    snapshot: &Snapshot,
    scope: &ClientScope,
    service: &OutboundService,
    problems: &mut ConnectionProblems,
) -> Vec<Diagnostic> {
    let held = snapshot.hosts.get_key_value(&service.host).map(|(host, _)| host);
    let Some(view) = held.and_then(|host| registry::view(snapshot, scope, host)) else { return Vec::new() };
    let backends = endpoints::of(snapshot, &view);
    let mut found = odd_labels(snapshot, &view, &backends);
    found.extend(unknown_ports(snapshot, &view, service, &backends));
    for cluster in &service.clusters {
        found.extend(cluster.trace.steps().filter_map(|step| of_trace(snapshot, step)));
        found.extend(hidden_block(snapshot, cluster));
        found.extend(no_mutual_tls(snapshot, cluster));
        let endpoints = explain::endpoints(snapshot, &view, &backends, cluster, &cluster.tls);
        problems.add(snapshot, scope, &view, cluster, &endpoints);
    }
    found
}

/// The steps of all decisions.
pub(super) fn steps(outbound: &Outbound) -> impl Iterator<Item = &Step> {
    outbound.services.values().flat_map(|one| &one.clusters).flat_map(|one| one.trace.steps())
}

/// The objects that took part in some decision.
pub(super) fn used(outbound: &Outbound) -> impl Iterator<Item = &ObjectRef> {
    steps(outbound).filter(|step| step.outcome() != StepOutcome::Lost).filter_map(|step| step.object.as_ref())
}

/// O7: credentials that are not sent to the proxy; mistakes in the rule itself are found by its parser.
pub(super) fn withheld_credentials(service: &OutboundService) -> impl Iterator<Item = Diagnostic> {
    let steps = service.clusters.iter().flat_map(|one| one.trace.steps());
    let needs_selector = |step: &&Step| {
        matches!(step.reason, Reason::ClientTls(ClientTlsReason::CredentialNeedsSelector { .. }))
    };
    steps.filter(needs_selector).filter_map(|step| of_step(step, "spec.trafficPolicy.tls.credentialName"))
}

/// The steps of a trace that are probably not intended.
fn of_trace(snapshot: &Snapshot, step: &Step) -> Option<Diagnostic> {
    let field = match &step.reason {
        Reason::Credential(CredentialReason::Withheld { .. }) => "spec.trafficPolicy.tls.credentialName",
        Reason::ClientTls(ClientTlsReason::MarkedByReplacedBlock { .. }) => {
            "spec.trafficPolicy.portLevelSettings"
        }
        Reason::DestinationRule(reason) => match reason {
            Rule::PartialHost | Rule::AliasHost => "spec.host",
            Rule::Shadowed { .. } => "spec.exportTo",
            Rule::HiddenBySelecting { .. }
            | Rule::SubsetDropped { .. }
            | Rule::PolicyIgnored { .. }
            | Rule::AddsNothing { .. }
            | Rule::OtherExport { .. } => "spec",
            _ => return None,
        },
        _ => return None,
    };
    let finding = of_step(step, field)?;
    Some(Diagnostic { effect: effect(snapshot, step), ..finding })
}

/// What a step means for the whole rule, as far as this client goes.
fn effect(snapshot: &Snapshot, step: &Step) -> Option<Effect> {
    let Reason::DestinationRule(reason) = &step.reason else { return None };
    match reason {
        Rule::PartialHost | Rule::AliasHost => Some(Effect::None),
        Rule::Shadowed { .. }
        | Rule::HiddenBySelecting { .. }
        | Rule::AddsNothing { .. }
        | Rule::OtherExport { .. } => Some(Effect::Shadowed),
        // Its subsets may still be in force.
        Rule::PolicyIgnored { .. } => rule_of(snapshot, step)?.subsets.is_empty().then_some(Effect::Shadowed),
        _ => None,
    }
}

/// D3: the rule that ended the search has no block, and one that it hides has.
fn hidden_block(snapshot: &Snapshot, cluster: &OutboundCluster) -> Vec<Diagnostic> {
    if cluster.policy.as_ref().is_some_and(|policy| policy.kind == Kind::DestinationRule) {
        return Vec::new();
    }
    let hidden = cluster.trace.steps().filter_map(|step| {
        let Reason::DestinationRule(Rule::NotReached { winner, .. }) = &step.reason else { return None };
        rule_of(snapshot, step).filter(|rule| has_block(rule)).map(|rule| (rule, winner))
    });
    let finding = |(rule, winner): (&DestinationRule, &ObjectRef)| {
        let message = format!("its tls block is hidden by {winner}, which has none (rule D3)");
        let finding = warning(&rule.meta.object, &rule.meta.origin, "spec.trafficPolicy.tls", message);
        let finding = without_effect(finding, Effect::Shadowed);
        Diagnostic { beaten_by: Some(winner.clone()), ..finding }
    };
    hidden.map(finding).collect()
}

fn rule_of<'a>(snapshot: &'a Snapshot, step: &Step) -> Option<&'a DestinationRule> {
    let object = step.object.as_ref()?;
    let rules = &snapshot.namespace(&object.namespace).destination_rules;
    rules.get(&object.name).map(|rule| &**rule)
}

fn has_block(rule: &DestinationRule) -> bool {
    let has_block = |policy: &TrafficPolicy| {
        policy.blocks.tls.is_some() || policy.ports.iter().any(|entry| entry.blocks.tls.is_some())
    };
    rule.traffic_policy.as_ref().is_some_and(has_block)
}

/// T1: entries for ports that the service does not have.
fn unknown_ports(
    snapshot: &Snapshot,
    view: &View<'_>,
    service: &OutboundService,
    backends: &[Backend],
) -> Vec<Diagnostic> {
    let steps = service.clusters.iter().flat_map(|cluster| cluster.trace.steps());
    let part = steps.filter(|step| step.outcome() != StepOutcome::Lost);
    let rules = part.filter_map(|step| rule_of(snapshot, step)).filter(|rule| rule.host == *view.host);
    let mut found = Vec::new();
    for rule in rules {
        let entries = rule.traffic_policies().flat_map(|policy| &policy.ports);
        let numbers: BTreeSet<u32> = entries.map(|entry| entry.port).collect();
        for number in numbers {
            if view.ports.iter().any(|port| u32::from(port.number) == number) {
                continue;
            }
            let behind = backends.iter().find(|backend| u32::from(backend.port()) == number);
            let named = behind.and_then(|one| view.ports.iter().find(|port| port.name == one.port_name));
            let hint =
                named.map(|port| format!(": it is the container port behind service port {}", port.number));
            let message =
                format!("{number} is no service port of {}{} (rule T1)", view.host, hint.unwrap_or_default());
            let field = "spec.trafficPolicy.portLevelSettings";
            found.push(warning(&rule.meta.object, &rule.meta.origin, field, message));
        }
    }
    found
}

/// A4, A5: a label value that means one thing behind a load balancer and another one behind a headless Service.
fn odd_labels(snapshot: &Snapshot, view: &View<'_>, backends: &[Backend]) -> Vec<Diagnostic> {
    let odd = backends.iter().filter(|backend| backend.mark == Mark::Other);
    odd.filter_map(|backend| {
        let workload = snapshot.workload(backend.workload.as_ref()?)?;
        let effect = match view.discovery {
            Discovery::OriginalDst => "counts as a member of the mesh (rule A5)",
            _ => "is sent plaintext (rule A4)",
        };
        let message =
            format!("its value is neither istio nor disabled: as endpoint of {} it {effect}", view.host);
        let field = "metadata.labels[security.istio.io/tlsMode]";
        Some(warning(&workload.meta.object, &workload.meta.origin, field, message))
    })
    .collect()
}

/// Section 6: without auto mutual TLS, hosts without a block get plaintext, whatever their servers demand.
fn no_mutual_tls(snapshot: &Snapshot, cluster: &OutboundCluster) -> Option<Diagnostic> {
    let last = cluster.trace.steps().next_back();
    let inferred = last.is_some_and(|step| step.reason == Reason::ClientTls(ClientTlsReason::AutoDisabled));
    let mesh = ObjectRef::new(Kind::ConfigMap, snapshot.mesh.root_namespace.clone(), "istio");
    let message = "enableAutoMtls is false: clients send plaintext wherever no rule has a tls block";
    inferred.then(|| warning(&mesh, &Origin::default(), "data.mesh", message.to_owned()))
}
