//! How a setting was decided: every candidate in the order it was looked at, the winner, and why the others lost.

use eastwest_model::{ObjectRef, Origin};
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
