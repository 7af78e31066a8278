//! Access control as filters of stock Envoy (AUTHORIZATION.md Z51, Z52).
//!
//! For HTTP the order is: authorizers, tokens, AUDIT, DENY, ALLOW; there is at most one RBAC filter for each action, and
//! policies on trial are its shadow rules. For bytes the same without tokens.

mod authorizer;
mod condition;
mod rules;
mod tokens;

use eastwest_engine::access::{Access, Policy, Provider};
use eastwest_model::policy::AuthorizationAction as Action;
use eastwest_proto::envoy::{
    config::{
        listener::v3::Filter,
        rbac::v3::{Rbac, rbac},
    },
    extensions::filters::{
        http::rbac::v3::Rbac as HttpRbac,
        network::{http_connection_manager::v3::HttpFilter, rbac::v3::Rbac as NetworkRbac},
    },
};

pub(crate) use self::rules::Carries;
use crate::sidecar::typed::{http_filter, network_filter};

const HTTP_FILTER: &str = "envoy.filters.http.rbac";
const NETWORK_FILTER: &str = "envoy.filters.network.rbac";
/// What a network filter counts under.
const STAT_PREFIX: &str = "tcp.";
/// Prefixes of what shadow rules count and note.
const TRIAL_OF_ALLOW: &str = "istio_dry_run_allow_";
const TRIAL_OF_DENY: &str = "istio_dry_run_deny_";

/// What one RBAC filter enforces, and what it only notes.
#[derive(Debug, Default, PartialEq)]
struct Filtering {
    enforced: Option<Rbac>,
    noted: Option<Rbac>,
    prefix: String,
}

/// The filters of a connection manager, before its router.
pub(crate) fn http(access: &Access) -> Vec<HttpFilter> {
    let mut filters = Vec::new();
    for filtering in custom(access, Carries::Http) {
        filters.push(http_rbac(filtering));
    }
    filters.extend(
        asked(access, Carries::Http).map(|one| http_filter(authorizer::NAME_HTTP, &authorizer::http(one))),
    );
    filters.extend(tokens::filter(&access.tokens).map(|config| http_filter(tokens::NAME, &config)));
    filters.extend(by_action(access, Carries::Http).map(http_rbac));
    filters
}

/// The filters of a chain that carries bytes, before its proxy.
pub(crate) fn network(access: &Access) -> Vec<Filter> {
    let mut filters: Vec<Filter> = custom(access, Carries::Bytes).into_iter().map(network_rbac).collect();
    filters.extend(
        asked(access, Carries::Bytes)
            .map(|one| network_filter(authorizer::NAME_NETWORK, &authorizer::network(one))),
    );
    filters.extend(by_action(access, Carries::Bytes).map(network_rbac));
    filters
}

/// The CUSTOM policies that deny for their provider is broken, and the note of those whose authorizer is asked (Z11).
fn custom(access: &Access, carries: Carries) -> Vec<Filtering> {
    let policies = || access.policies.iter().filter(|policy| policy.action == Action::Custom);
    let broken = policies().filter(|policy| matches!(policy.provider, Some(Provider::Broken { .. })));
    let broken = rules::of(rbac::Action::Deny, broken, carries, "");
    let mut filterings = Vec::new();
    if !broken.policies.is_empty() {
        filterings.push(Filtering { enforced: Some(broken), ..Filtering::default() });
    }
    if let Some(asked) = asked(access, carries).next() {
        let names = format!("{}-{}-", authorizer::POLICY, asked.name);
        let known = policies().filter(|policy| matches!(policy.provider, Some(Provider::Known(_))));
        let noted = rules::of(rbac::Action::Deny, known, carries, &names);
        filterings.push(Filtering {
            noted: Some(noted),
            prefix: authorizer::SHADOW_PREFIX.to_owned(),
            ..Filtering::default()
        });
    }
    filterings
}

/// The authorizer of the workload that is asked about such traffic; there is one at most.
fn asked(
    access: &Access,
    carries: Carries,
) -> impl Iterator<Item = &eastwest_model::mesh::Authorizer> + Clone {
    let custom = access.policies.iter().filter(move |policy| {
        policy.action == Action::Custom && !(carries == Carries::Bytes && policy.is_for_http_alone())
    });
    let known = custom.filter_map(|policy| match &policy.provider {
        Some(Provider::Known(authorizer)) => Some(&**authorizer),
        _ => None,
    });
    known.take(1)
}

/// AUDIT, DENY and ALLOW, as far as some policy has the action.
fn by_action(access: &Access, carries: Carries) -> impl Iterator<Item = Filtering> {
    let audit = (Action::Audit, rbac::Action::Log, "");
    let deny = (Action::Deny, rbac::Action::Deny, TRIAL_OF_DENY);
    let allow = (Action::Allow, rbac::Action::Allow, TRIAL_OF_ALLOW);
    [audit, deny, allow].into_iter().filter_map(move |(action, as_rbac, prefix)| {
        let of = |dry_run| {
            let is_it =
                move |policy: &&std::sync::Arc<Policy>| policy.action == action && policy.dry_run == dry_run;
            let policies = access.policies.iter().filter(is_it);
            (policies.clone().count() > 0).then(|| rules::of(as_rbac, policies, carries, ""))
        };
        let (enforced, noted) = (of(false), of(true));
        let prefix = if noted.is_some() { prefix.to_owned() } else { String::new() };
        (enforced.is_some() || noted.is_some()).then_some(Filtering { enforced, noted, prefix })
    })
}

fn http_rbac(filtering: Filtering) -> HttpFilter {
    let Filtering { enforced, noted, prefix } = filtering;
    let config = HttpRbac {
        rules: enforced,
        shadow_rules: noted,
        shadow_rules_stat_prefix: prefix,
        ..Default::default()
    };
    http_filter(HTTP_FILTER, &config)
}

fn network_rbac(filtering: Filtering) -> Filter {
    let Filtering { enforced, noted, prefix } = filtering;
    let config = NetworkRbac {
        rules: enforced,
        shadow_rules: noted,
        shadow_rules_stat_prefix: prefix,
        stat_prefix: STAT_PREFIX.to_owned(),
        ..Default::default()
    };
    network_filter(NETWORK_FILTER, &config)
}
