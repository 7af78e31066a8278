//! The verdict over a request (Z5 to Z14).

use std::sync::Arc;

use eastwest_model::{Name, ObjectRef, policy::AuthorizationAction as Action};
use serde::{Serialize, Serializer};

use super::{
    Access,
    failed::{self, Failed},
    policy::{Policy, Provider},
    request::Request,
    token::{self, Given, Presented},
};

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A policy.
    Object(ObjectRef),
    /// Some ALLOW policy applies, and none matched.
    DefaultDeny,
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(object) => object.serialize(serializer),
            Self::DefaultDeny => serializer.serialize_str("default-deny"),
        }
    }
}

/// What a policy says of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The policy.
    pub object: ObjectRef,
    /// What it does.
    pub action: Action,
    /// It is only observed.
    pub dry_run: bool,
    /// Some rule matched.
    pub matched: bool,
    /// The number of that rule.
    pub rule: Option<usize>,
    /// What did not hold, of each rule, if none matched.
    pub failed: Vec<Failed>,
}

/// The verdict over a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// It is allowed.
    pub allowed: bool,
    /// What decided; `None` = nothing did, so it is allowed.
    pub by: Option<By>,
    /// The rule of that policy.
    pub rule: Option<usize>,
    /// Why, in a sentence.
    pub reason: String,
    /// External authorizers that are asked first.
    pub asks: Vec<Name>,
    /// Every policy that applies.
    pub policies: Vec<Outcome>,
}

/// Judges a request at `now`, in seconds since the Unix epoch. `given` is a token beside those in the request.
pub fn judge(access: &Access, mut request: Request, given: Option<Given<'_>>, now: i64) -> Judged {
    let presented = match request.http.as_mut() {
        Some(http) => token::present(&access.tokens, http, given, now),
        None => Presented::Nothing,
    };
    let outcomes: Vec<Outcome> = access.policies.iter().map(|policy| outcome(policy, &request)).collect();
    let matches = || access.policies.iter().zip(&outcomes).filter(|(_, outcome)| outcome.matched);
    let of = |action: Action| matches().find(move |(one, _)| one.action == action && !one.dry_run);
    let (mut asks, mut broken) = (Vec::new(), None);
    for (policy, outcome) in matches() {
        match &policy.provider {
            Some(Provider::Known(authorizer)) if !asks.contains(&authorizer.name) => {
                asks.push(authorizer.name.clone());
            }
            Some(Provider::Broken { name, why }) => broken = broken.or(Some((policy, outcome, name, why))),
            _ => {}
        }
    }
    let has_allow = access.policies.iter().any(|one| one.action == Action::Allow && !one.dry_run);
    let denied = |by, rule, reason| Decision { allowed: false, by: Some(by), rule, reason };
    let decision = if let Some((policy, outcome, name, why)) = broken {
        let reason = format!("its provider {name:?} cannot be asked: {why}; so it denies what it matches");
        denied(By::Object(policy.object.clone()), outcome.rule, reason)
    } else if let Presented::Refused { by, why } = presented {
        denied(By::Object(by), None, format!("the token is refused: {why}"))
    } else if let Some((policy, outcome)) = of(Action::Deny) {
        denied(By::Object(policy.object.clone()), outcome.rule, matched("denies", outcome))
    } else if let Some((policy, outcome)) = of(Action::Allow) {
        let by = Some(By::Object(policy.object.clone()));
        Decision { allowed: true, by, rule: outcome.rule, reason: matched("allows", outcome) }
    } else if has_allow {
        let reason = "an ALLOW policy applies to the workload, and none of them matched".to_owned();
        denied(By::DefaultDeny, None, reason)
    } else {
        let reason = "no DENY policy matched, and no ALLOW policy applies to the workload".to_owned();
        Decision { allowed: true, by: None, rule: None, reason }
    };
    let Decision { allowed, by, rule, reason } = decision;
    Judged { allowed, by, rule, reason, asks, policies: outcomes }
}

/// A verdict on its way.
struct Decision {
    allowed: bool,
    by: Option<By>,
    rule: Option<usize>,
    reason: String,
}

fn matched(does: &str, outcome: &Outcome) -> String {
    let rule = outcome.rule.unwrap_or_default();
    format!("rule {rule} of {} matches, and {does}", outcome.object)
}

fn outcome(policy: &Arc<Policy>, request: &Request) -> Outcome {
    let is_bytes = request.http.is_none();
    let for_bytes = is_bytes.then(|| policy.rules_for_bytes());
    let rules = for_bytes.as_ref().unwrap_or(&policy.rules);
    let asked = !(is_bytes && policy.is_for_http_alone());
    let unmet: Vec<_> = rules.iter().map(|(number, rule)| (*number, failed::first(rule, request))).collect();
    let matched = unmet.iter().find(|(_, unmet)| asked && unmet.is_none()).map(|(number, _)| *number);
    let mut failed: Vec<Failed> = Vec::new();
    if matched.is_none() {
        let unmet = unmet.into_iter().filter_map(|(number, unmet)| Some((number, unmet?)));
        failed.extend(unmet.map(|(number, unmet)| Failed::new(number, unmet, request)));
        let dropped = policy.rules.iter().filter(|(number, _)| !rules.iter().any(|(kept, _)| kept == number));
        let dropped = dropped.filter_map(|(number, rule)| Some((*number, rule.first_http_only()?)));
        failed.extend(dropped.map(|(number, unmet)| Failed::new(number, unmet, request)));
        failed.sort_by_key(|one| one.rule);
    }
    Outcome {
        object: policy.object.clone(),
        action: policy.action,
        dry_run: policy.dry_run,
        matched: matched.is_some(),
        rule: matched,
        failed,
    }
}
