//! How a setting was decided: every candidate in the order it was looked at, the winner, and why the others lost.

use eastwest_model::{Meta, ObjectRef, Origin};
use serde::Serialize;

/// How one setting was decided. Equal traces belong to equal decisions, so a trace is part of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
}

/// One candidate, or one inference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The object looked at; `None` for a default, mesh configuration or an inference.
    pub object: Option<ObjectRef>,
    /// Where it was read.
    pub origin: Option<Origin>,
    /// What became of it.
    pub outcome: Outcome,
    /// The rule that decided, by its number in the policy reference, e.g. `P4`.
    pub rule: &'static str,
    /// For a person: what happened and why.
    pub reason: String,
    /// The object that won instead, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beaten_by: Option<ObjectRef>,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It decided the setting.
    Won,
    /// It took part, and a more specific one or an inference changed the result further.
    Inherited,
    /// It lost to the object named in the reason.
    Lost,
}

impl Step {
    /// An object that decided.
    pub fn won(meta: &Meta, rule: &'static str, reason: impl Into<String>) -> Self {
        Self::of(meta, Outcome::Won, rule, reason.into(), None)
    }

    /// An object that took part.
    pub fn inherited(meta: &Meta, rule: &'static str, reason: impl Into<String>) -> Self {
        Self::of(meta, Outcome::Inherited, rule, reason.into(), None)
    }

    /// An object that lost, to another one if `winner` is given.
    pub fn lost(
        meta: &Meta,
        rule: &'static str,
        reason: impl Into<String>,
        winner: Option<&ObjectRef>,
    ) -> Self {
        Self::of(meta, Outcome::Lost, rule, reason.into(), winner.cloned())
    }

    /// A default, the mesh's configuration or an inference that decided.
    pub fn inferred(rule: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { object: None, origin: None, outcome: Outcome::Won, rule, reason, beaten_by: None }
    }

    fn of(
        meta: &Meta,
        outcome: Outcome,
        rule: &'static str,
        reason: String,
        beaten_by: Option<ObjectRef>,
    ) -> Self {
        let (object, origin) = (Some(meta.object.clone()), Some(meta.origin.clone()));
        Self { object, origin, outcome, rule, reason, beaten_by }
    }
}
