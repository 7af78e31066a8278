//! Traps of access control: policies that do less, or more, than they seem to (AUTHORIZATION.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{
    Diagnostic, Effect, Workload, WorkloadKey,
    policy::{
        Attribute, AuthorizationAction as Action, AuthorizationPolicy, AuthorizationRule, KeySource,
        MutualTlsMode, Requirement,
    },
    service::Protocol,
};

use super::{warning, without_effect};
use crate::{Snapshot, compute, settings::Inbound};

/// Findings about every policy of access.
pub(super) fn findings(snapshot: &Snapshot, accepted: &Accepted) -> BTreeSet<Diagnostic> {
    let mut found = BTreeSet::new();
    for space in snapshot.namespaces.values() {
        for policy in space.authorization_policies.values() {
            let meta = &policy.meta;
            let about = |field: &str, message: String| warning(&meta.object, &meta.origin, field, message);
            let selected = selected(snapshot, meta, &policy.selector);
            found.extend(
                scope(&selected, policy.is_targeted)
                    .map(|(field, message)| without_effect(about(field, message), Effect::None)),
            );
            found.extend(provider(snapshot, policy).map(|message| about("spec.provider.name", message)));
            let facts = accepted.by(&selected);
            for (number, rule) in policy.rules.iter().enumerate() {
                let field = format!("spec.rules[{number}]");
                found.extend(traps(policy, rule, &facts).into_iter().map(|message| about(&field, message)));
            }
        }
        for one in space.request_authentications.values() {
            let about =
                |field: &str, message: String| warning(&one.meta.object, &one.meta.origin, field, message);
            let selected = selected(snapshot, &one.meta, &one.selector);
            found.extend(
                scope(&selected, one.is_targeted)
                    .map(|(field, message)| without_effect(about(field, message), Effect::None)),
            );
            for (number, rule) in one.rules.iter().enumerate() {
                if matches!(rule.keys, KeySource::Uri(_) | KeySource::Discovery) {
                    let field = format!("spec.jwtRules[{number}]");
                    let message = "its keys are not fetched, so all tokens of this issuer are refused: put the keys into jwks \
                                   (rule Z49)";
                    found.insert(about(&field, message.to_owned()));
                }
            }
        }
    }
    found
}

/// Z1, Z2: the workloads that run and that a policy selects.
fn selected<'a>(
    snapshot: &'a Snapshot,
    meta: &eastwest_model::Meta,
    selector: &'a eastwest_model::Selector,
) -> Vec<&'a Arc<Workload>> {
    let everywhere = *meta.namespace() == snapshot.mesh.root_namespace;
    let spaces = snapshot.namespaces.iter().filter(|(name, _)| everywhere || *name == meta.namespace());
    spaces.flat_map(|(_, space)| space.workloads.selected(selector)).filter(|one| !one.ended).collect()
}

/// Z3, Z53: a policy that is for nobody.
fn scope(selected: &[&Arc<Workload>], is_targeted: bool) -> Option<(&'static str, String)> {
    if is_targeted {
        let message =
            "is for gateways and waypoints, which are not configured here: use a selector (rule Z3)";
        return Some(("spec.targetRefs", message.to_owned()));
    }
    if selected.is_empty() {
        return Some(("spec.selector", "selects no workload (rule Z2)".to_owned()));
    }
    let none = !selected.iter().any(|one| compute::has_proxy(one));
    none.then(|| {
        (
            "spec.selector",
            "selects only workloads without a proxy, which enforce nothing (rule Z53)".to_owned(),
        )
    })
}

/// Z11: an authorizer that cannot be asked.
fn provider(snapshot: &Snapshot, policy: &AuthorizationPolicy) -> Option<String> {
    let name = policy.provider.as_deref().filter(|_| policy.action == Action::Custom)?;
    let why = compute::access::known(snapshot, name).err()?;
    Some(format!(
        "{name:?} cannot be asked: {why}; so everything that the policy matches is denied (rule Z11)"
    ))
}

/// What workloads with a proxy accept.
#[derive(Default)]
pub(super) struct Accepted(BTreeMap<WorkloadKey, Facts>);

/// What some workloads accept.
#[derive(Clone, Copy, Default)]
struct Facts {
    /// Some port takes plaintext.
    plaintext: bool,
    /// Some port carries bytes, or may.
    bytes: bool,
}

impl Accepted {
    /// Notes what a workload accepts.
    pub(super) fn note(&mut self, workload: &Workload, inbound: &Inbound) {
        if !compute::has_proxy(workload) {
            return;
        }
        let mut modes = inbound.ports.values().map(|port| port.mode).chain([inbound.mode]);
        let mut listed = inbound.ports.values().filter_map(|port| port.listed);
        let facts = Facts {
            plaintext: modes.any(|mode| mode != MutualTlsMode::Strict),
            bytes: listed.any(|one| matches!(one, Protocol::Tcp | Protocol::Undeclared)),
        };
        self.0.insert(workload.key(), facts);
    }

    fn by(&self, selected: &[&Arc<Workload>]) -> Facts {
        let known = selected.iter().filter_map(|one| self.0.get(&one.key()));
        known.fold(Facts::default(), |all, one| Facts {
            plaintext: all.plaintext | one.plaintext,
            bytes: all.bytes | one.bytes,
        })
    }
}

/// The traps of one rule.
fn traps(policy: &AuthorizationPolicy, rule: &AuthorizationRule, facts: &Facts) -> Vec<String> {
    let all = || rule.requirements();
    let names_peer = |one: &&Requirement| one.attribute.is_peer_identity();
    let mut found = Vec::new();
    let positive = all().filter(names_peer).any(|one| !one.negated);
    let negative = all().filter(names_peer).find(|one| one.negated);
    if facts.plaintext && policy.action == Action::Deny && positive {
        found.push(
            "denies by the identity of peers, and plaintext, which some of its workloads take, has none: it gets past this \
             rule; use STRICT, or a negated field (rule Z21)"
                .to_owned(),
        );
    }
    if let Some(one) = negative.filter(|_| facts.plaintext && policy.action == Action::Allow && !positive) {
        let place = &one.place;
        found.push(format!(
            "{place} holds for plaintext, which some of its workloads take: it is let in (rule Z21)"
        ));
    }
    if let Some(one) = all().find(|one| one.attribute.is_http_only()).filter(|_| facts.bytes) {
        let has_port =
            all().any(|one| matches!(one.attribute, Attribute::DestinationPort(_)) && !one.negated);
        let place = &one.place;
        if policy.action == Action::Allow {
            found.push(format!("is dropped for TCP, for {place} is about HTTP: name TCP ports in a rule of their own (rule Z40)"));
        } else if !has_port {
            found.push(format!(
                "matches more for TCP, where {place} is left out: name the HTTP ports in to.operation.ports (rule Z41)"
            ));
        }
    }
    for one in all() {
        found.extend(suspicious(policy, one));
    }
    found
}

/// Values that cannot mean what they seem to.
fn suspicious(policy: &AuthorizationPolicy, one: &Requirement) -> Option<String> {
    let place = &one.place;
    let find = |is: &dyn Fn(&str) -> bool| one.values.iter().find(|value| is(value));
    match &one.attribute {
        Attribute::Method => {
            let value = find(&|value| value.bytes().any(|byte| byte.is_ascii_lowercase()))?;
            Some(format!(
                "{place}: {value:?} matches no method: write it in capitals (rule Z31)",
                value = &**value
            ))
        }
        Attribute::Principal => {
            if let Some(value) = find(&|value| value.starts_with("spiffe://")) {
                return Some(format!(
                    "{place}: {:?} matches nobody: leave the scheme out (rule Z17)",
                    &**value
                ));
            }
            let inner = |value: &str| value.trim_matches('*').contains('*');
            let value = find(&inner)?;
            Some(format!("{place}: a star inside {:?} is an ordinary character (rule Z15)", &**value))
        }
        Attribute::RemoteAddress(_) => Some(format!(
            "{place} is about X-Forwarded-For, which any client of a sidecar can write: use ipBlocks (rule Z22)"
        )),
        Attribute::Host if policy.action == Action::Deny && !one.negated => {
            let value = find(&|value| !value.contains([':', '*']))?;
            let value = &**value;
            Some(format!(
                "{place}: {value:?} does not match {value}:PORT, so a port gets past it: add \"{value}:*\" (rule Z29)"
            ))
        }
        Attribute::Path => {
            let value = find(&|value| !value.starts_with(['/', '*']))?;
            Some(format!("{place}: {:?} matches no path: begin with a slash (rule Z32)", &**value))
        }
        _ => None,
    }
}
