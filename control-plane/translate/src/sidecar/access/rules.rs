//! Policies as rules of RBAC: what is done is a permission, who does it a principal.

use std::sync::Arc;

use eastwest_engine::access::{Policy, Requirement, Rule, Test};
use eastwest_model::policy::Attribute;
use eastwest_proto::envoy::config::rbac::v3::{
    Permission, Policy as RbacPolicy, Principal, Rbac, permission, principal, rbac,
};

use super::condition;

/// What a chain does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
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
    RbacPolicy {
        permissions: vec![part(by_destination, &rule.operations)],
        principals: vec![part(by_source, &rule.sources)],
    }
}

/// All conditions, and all requirements of one of the lists, if there are any.
fn part<T: Combined>(conditions: Vec<&Requirement>, lists: &[Vec<Requirement>]) -> T {
    let mut parts: Vec<T> = conditions.into_iter().map(compared).collect();
    if !lists.is_empty() {
        parts.push(any(lists.iter().map(|list| all(list.iter().map(compared).collect())).collect()));
    }
    all(parts)
}

/// Whether a condition can only be a permission.
fn is_about_destination(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::DestinationAddress(_) | Attribute::DestinationPort(_) | Attribute::ServerName
    )
}

/// One of the values, or none of them if it is negated.
fn compared<T: Combined>(requirement: &Requirement) -> T {
    let any = any(requirement.tests.iter().filter_map(T::of).collect());
    if requirement.negated { T::not(any) } else { any }
}

/// All of them; none is any.
fn all<T: Combined>(mut several: Vec<T>) -> T {
    match several.len() {
        0 => T::anything(),
        1 => several.remove(0),
        _ => T::all_of(several),
    }
}

/// One of them; of none, nothing.
fn any<T: Combined>(mut several: Vec<T>) -> T {
    match several.len() {
        0 => T::not(T::anything()),
        1 => several.remove(0),
        _ => T::one_of(several),
    }
}

/// What RBAC combines in the same way: permissions and principals.
trait Combined: Sized {
    /// What a test compares, if it is about this.
    fn of(test: &Test) -> Option<Self>;
    fn anything() -> Self;
    fn not(one: Self) -> Self;
    fn all_of(several: Vec<Self>) -> Self;
    fn one_of(several: Vec<Self>) -> Self;
}

impl Combined for Permission {
    fn of(test: &Test) -> Option<Self> {
        condition::permission(test)
    }

    fn anything() -> Self {
        condition::permits(permission::Rule::Any(true))
    }

    fn not(one: Self) -> Self {
        condition::permits(permission::Rule::NotRule(Box::new(one)))
    }

    fn all_of(rules: Vec<Self>) -> Self {
        condition::permits(permission::Rule::AndRules(permission::Set { rules }))
    }

    fn one_of(rules: Vec<Self>) -> Self {
        condition::permits(permission::Rule::OrRules(permission::Set { rules }))
    }
}

impl Combined for Principal {
    fn of(test: &Test) -> Option<Self> {
        condition::principal(test)
    }

    fn anything() -> Self {
        condition::is_who(principal::Identifier::Any(true))
    }

    fn not(one: Self) -> Self {
        condition::is_who(principal::Identifier::NotId(Box::new(one)))
    }

    fn all_of(ids: Vec<Self>) -> Self {
        condition::is_who(principal::Identifier::AndIds(principal::Set { ids }))
    }

    fn one_of(ids: Vec<Self>) -> Self {
        condition::is_who(principal::Identifier::OrIds(principal::Set { ids }))
    }
}
