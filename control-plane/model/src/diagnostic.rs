//! Findings about the configuration, as data: `check`, `tls`, `explain`, the log and the debug pages are views of them.

use serde::Serialize;

use crate::{meta::Origin, names::ObjectRef};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is refused.
    Error,
    /// The object is taken, but does not do what one may think.
    Warning,
}

/// What a finding means for the whole object that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Other objects win wherever it could apply: [`Diagnostic::beaten_by`] is one of them.
    Shadowed,
    /// There is nothing that it applies to.
    None,
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `Kind/namespace/name`, or the file when the object has no name yet.
    pub object: String,
    /// Where that object was read.
    #[serde(flatten)]
    pub origin: Origin,
    /// The field, e.g. `spec.mtls.mode`; empty when the whole object is meant.
    pub field: String,
    /// What is wrong and what to do about it.
    pub message: String,
    /// The object that wins instead, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beaten_by: Option<ObjectRef>,
    /// Set if the finding means that the whole object has no effect; it is not part of any output. Findings about a part
    /// of an object, and advice, leave it open.
    #[serde(skip)]
    pub effect: Option<Effect>,
}
