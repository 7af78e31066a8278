//! Why a rule did not match.

use eastwest_model::Name;
use serde::Serialize;
use serde_json::Value;

use super::{
    policy::{Requirement, Rule},
    request::Request,
};

/// The first requirement of a rule that a request did not meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The number of the rule in its policy.
    pub rule: usize,
    /// The place of the requirement in the rule: `to.operation.methods`.
    pub condition: Name,
    /// The values that it asks for, or forbids where the place says `not`.
    pub want: Vec<Name>,
    /// What the request has.
    pub got: Value,
}

impl Failed {
    pub(super) fn new(rule: usize, requirement: &Requirement, request: &Request) -> Self {
        Self {
            rule,
            condition: requirement.place.clone(),
            want: requirement.values.clone(),
            got: request.shows(&requirement.attribute),
        }
    }
}

/// The first requirement of a rule that is not met; `None` if the rule matches.
pub(super) fn first<'r>(rule: &'r Rule, request: &Request) -> Option<&'r Requirement> {
    let unmet = |list: &'r Vec<Requirement>| list.iter().position(|one| !request.meets(one));
    for alternatives in [&rule.sources, &rule.operations] {
        let unmet: Vec<_> = alternatives.iter().map(|list| unmet(list).map(|at| &list[at])).collect();
        if let Some(Some(first)) = unmet.first().filter(|_| unmet.iter().all(Option::is_some)) {
            return Some(first);
        }
    }
    rule.conditions.iter().find(|one| !request.meets(one))
}
