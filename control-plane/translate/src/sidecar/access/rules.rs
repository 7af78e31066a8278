//! Policies as rules of RBAC: what is done is a permission, who does it a principal.

use std::sync::Arc;

use eastwest_engine::access::{Policy, Requirement, Rule};
use eastwest_model::policy::Attribute;
use eastwest_proto::envoy::config::rbac::v3::{
    Permission, Policy as RbacPolicy, Principal, Rbac, permission, principal, rbac,
};

use super::condition;

/// What a chain does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    Http,
    Bytes,
}

/// The rules of some policies; `names` begins each name.
pub(super) fn of<'a>(
    action: rbac::Action,
    policies: impl Iterator<Item = &'a Arc<Policy>>,
    carries: Carries,
    names: &str,
) -> Rbac {
    let rules = policies.flat_map(|policy| {
        let rules = match carries {
            Carries::Http => policy.rules.clone(),
            Carries::Bytes => policy.rules_for_bytes(),
        };
        rules.into_iter().map(|(number, one)| (format!("{names}{}", policy.rule_name(number)), rule(&one)))
    });
    Rbac { action: action as i32, policies: rules.collect() }
}

/// A rule: one permission and one principal, both of which must hold.
fn rule(rule: &Rule) -> RbacPolicy {
    let (by_destination, by_source): (Vec<&Requirement>, Vec<&Requirement>) =
        rule.conditions.iter().partition(|one| is_about_destination(&one.attribute));
    let mut permissions: Vec<Permission> = by_destination.into_iter().map(permission_of).collect();
    if !rule.operations.is_empty() {
        let all = |list: &Vec<Requirement>| all_permissions(list.iter().map(permission_of).collect());
        permissions.push(any_permission(rule.operations.iter().map(all).collect()));
    }
    let mut principals: Vec<Principal> = by_source.into_iter().map(principal_of).collect();
    if !rule.sources.is_empty() {
        let all = |list: &Vec<Requirement>| all_principals(list.iter().map(principal_of).collect());
        principals.push(any_principal(rule.sources.iter().map(all).collect()));
    }
    RbacPolicy {
        permissions: vec![all_permissions(permissions)],
        principals: vec![all_principals(principals)],
    }
}

/// Whether a condition can only be a permission.
fn is_about_destination(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::DestinationAddress(_) | Attribute::DestinationPort(_) | Attribute::ServerName
    )
}

fn permission_of(requirement: &Requirement) -> Permission {
    let any = any_permission(requirement.tests.iter().filter_map(condition::permission).collect());
    if requirement.negated { condition::permits(permission::Rule::NotRule(Box::new(any))) } else { any }
}

fn principal_of(requirement: &Requirement) -> Principal {
    let any = any_principal(requirement.tests.iter().filter_map(condition::principal).collect());
    if requirement.negated { condition::is_who(principal::Identifier::NotId(Box::new(any))) } else { any }
}

/// All of them; none is any.
fn all_permissions(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        0 => condition::permits(permission::Rule::Any(true)),
        1 => rules.remove(0),
        _ => condition::permits(permission::Rule::AndRules(permission::Set { rules })),
    }
}

/// One of them; there is one at least.
fn any_permission(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        0 => {
            let any = condition::permits(permission::Rule::Any(true));
            condition::permits(permission::Rule::NotRule(Box::new(any)))
        }
        1 => rules.remove(0),
        _ => condition::permits(permission::Rule::OrRules(permission::Set { rules })),
    }
}

fn all_principals(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        0 => condition::is_who(principal::Identifier::Any(true)),
        1 => ids.remove(0),
        _ => condition::is_who(principal::Identifier::AndIds(principal::Set { ids })),
    }
}

fn any_principal(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        0 => {
            let any = condition::is_who(principal::Identifier::Any(true));
            condition::is_who(principal::Identifier::NotId(Box::new(any)))
        }
        1 => ids.remove(0),
        _ => condition::is_who(principal::Identifier::OrIds(principal::Set { ids })),
    }
}
