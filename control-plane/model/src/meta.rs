//! What every object has: a reference, an age, labels and the place it was read from.

use std::{collections::BTreeMap, fmt, sync::Arc};

use eastwest_identity::Name;
use serde::Serialize;

use crate::names::ObjectRef;

/// Labels or annotations, in one order.
pub type Labels = BTreeMap<Name, Name>;

/// Seconds since the Unix epoch: an object's `creationTimestamp`. Objects without one are the youngest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Created(pub i64);

impl Default for Created {
    fn default() -> Self {
        Self(i64::MAX)
    }
}

/// Where an object was read: a file and the line on which its document begins, both absent for a live cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// The file, relative to the configuration directory.
    pub file: Option<Name>,
    /// The line, from 1.
    pub line: Option<u32>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}"),
            (Some(file), None) => f.write_str(file),
            (None, _) => f.write_str("the cluster"),
        }
    }
}

/// The metadata of an object, shared by its parsed forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Kind, namespace, name.
    pub object: ObjectRef,
    /// Age.
    pub created: Created,
    /// Labels.
    pub labels: Arc<Labels>,
    /// Annotations that mean something to us; all others are dropped.
    pub annotations: Arc<Labels>,
    /// Where it was read.
    pub origin: Origin,
}

impl Meta {
    /// The metadata of an object of which nothing but its name is known: youngest, without labels, from no file.
    pub fn new(object: ObjectRef) -> Self {
        Self {
            object,
            created: Created::default(),
            labels: Arc::default(),
            annotations: Arc::default(),
            origin: Origin::default(),
        }
    }

    /// Namespace of the object.
    pub fn namespace(&self) -> &Name {
        &self.object.namespace
    }

    /// Name of the object.
    pub fn name(&self) -> &Name {
        &self.object.name
    }

    /// The order of precedence "oldest first, ties by name, then namespace" (POLICY.md P4, D6).
    pub fn age_key(&self) -> (Created, &Name, &Name) {
        (self.created, &self.object.name, &self.object.namespace)
    }
}

/// `matchLabels`: selects the workloads that carry all of these labels; empty selects every workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Selector(pub Labels);

impl Selector {
    /// Whether every label of the selector stands among `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// No label named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
