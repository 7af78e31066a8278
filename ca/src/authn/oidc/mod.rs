//! OIDC tokens of CI jobs, and the rules that map their claims to an identity.
//!
//! A rule names an issuer and an audience, says which claims a job must have, and which service account it then is. It
//! matches no job by default: every claim that it names must be there and match as a whole.

mod parse;
mod pattern;
mod replay;
mod template;

use std::{collections::BTreeMap, time::Duration};

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use serde_json::Value;
use thiserror::Error;

use crate::{
    authn::{
        caller::{Caller, Proof},
        jwt::{TokenError, Verified},
    },
    names::AllowedNames,
};

pub use pattern::{Pattern, PatternError};
pub use replay::{ReplayError, SpentTokens, TokenId};
pub use template::{Template, TemplateError};

/// Why the token of a job is not accepted. For our log; the job gets no reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JobError {
    /// For another audience than any rule of the issuer asks.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No rule matches the claims.
    #[error("no rule speaks for the job {subject:?} of {issuer}")]
    NoRule {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
    },
    /// Two rules match.
    #[error(
        "the rules {0} and {1} both speak for this job; at most one may: make their claims exclude each other"
    )]
    Ambiguous(String, String),
    /// No `jti`, so that a second use could not be seen.
    #[error("the token has no jti, so a second use could not be refused")]
    NoId,
    /// The rule's template makes no name of the claims.
    #[error("rule {rule}: {source}")]
    Template {
        /// Which rule.
        rule: String,
        /// The problem.
        source: TemplateError,
    },
    /// What the template made is no service account.
    #[error("rule {rule}: {source}")]
    Identity {
        /// Which rule.
        rule: String,
        /// The problem.
        source: IdentityError,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    name: String,
    issuer: String,
    audience: String,
    jwks: Option<String>,
    claims: BTreeMap<String, Pattern>,
    namespace: Template,
    service_account: Template,
    max_life: Duration,
    names: AllowedNames,
}

impl Rule {
    /// The issuer of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// File or address of the issuer's keys; found by discovery if not named.
    pub fn jwks(&self) -> Option<&str> {
        self.jwks.as_deref()
    }

    fn matches(&self, token: &Verified) -> bool {
        self.claims.iter().all(|(name, pattern)| {
            token.claim(name).and_then(text_of).is_some_and(|text| pattern.matches(&text))
        })
    }
}

/// A claim as text: rules compare texts, truth values and whole numbers, nothing that is nested.
fn text_of(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// A job that matches a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Who it is.
    pub caller: Caller,
    /// `jti`, by which a second use is refused.
    pub id: String,
}

/// All rules. Read from a document; see `docs/CA.md` for its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobRules(Vec<Rule>);

impl JobRules {
    /// Reads the rules of a document.
    ///
    /// # Errors
    /// All mistakes, each with the path of its field.
    pub fn from_value(document: &Value) -> Result<Self, Vec<String>> {
        parse::rules(document).map(Self)
    }

    /// The rules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// The job with this token. Exactly one rule must match.
    ///
    /// # Errors
    /// See [`JobError`].
    pub fn judge(&self, token: &Verified, trust_domain: &TrustDomain) -> Result<Job, JobError> {
        let of_issuer = || self.0.iter().filter(|rule| rule.issuer == token.issuer());
        let audiences: Vec<String> = of_issuer().map(|rule| rule.audience.clone()).collect();
        token.is_for(&audiences)?;
        let subject = token.text("sub").unwrap_or_default();
        let fits =
            |rule: &&Rule| token.is_for(std::slice::from_ref(&rule.audience)).is_ok() && rule.matches(token);
        let mut matching = of_issuer().filter(fits);
        let Some(rule) = matching.next() else {
            return Err(JobError::NoRule { issuer: token.issuer().to_owned(), subject: subject.to_owned() });
        };
        if let Some(other) = matching.next() {
            return Err(JobError::Ambiguous(rule.name.clone(), other.name.clone()));
        }
        let id = token.text("jti").ok_or(JobError::NoId)?.to_owned();
        let made = |template: &Template| {
            let made = template.fill(|claim| token.text(claim));
            made.map_err(|source| JobError::Template { rule: rule.name.clone(), source })
        };
        let identity =
            SpiffeId::workload(trust_domain, &made(&rule.namespace)?, &made(&rule.service_account)?)
                .map_err(|source| JobError::Identity { rule: rule.name.clone(), source })?;
        let proof = Proof::Oidc {
            issuer: token.issuer().to_owned(),
            subject: subject.to_owned(),
            rule: rule.name.clone(),
            expires: token.expires(),
        };
        let caller = Caller::new(identity, proof).living_at_most(rule.max_life).naming(rule.names.clone());
        Ok(Job { caller, id })
    }

    /// Whether some rule can make a job this identity. Its certificates do not renew themselves: they would outlive
    /// the job and the rule's bound.
    pub fn may_grant(&self, identity: &SpiffeId) -> bool {
        let Ok((namespace, account)) = identity.as_workload() else { return false };
        let mut rules = self.0.iter();
        rules.any(|rule| rule.namespace.can_make(namespace) && rule.service_account.can_make(account))
    }
}

#[cfg(test)]
mod tests;
