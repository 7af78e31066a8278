//! What names a workload: its namespace and its own name.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::names::Name;

/// The text is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} does not name a workload: write NAMESPACE/POD, for example shop/reviews-0")]
pub struct WorkloadKeyError(String);

/// A workload by namespace and name: `shop/reviews-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// The namespace.
    pub namespace: Name,
    /// The name of the Pod or WorkloadEntry.
    pub name: Name,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadKey {
    type Err = WorkloadKeyError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(WorkloadKeyError(text.to_owned())),
        }
    }
}

impl Serialize for WorkloadKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_keys() {
        assert_eq!("shop/a-0".parse::<WorkloadKey>().unwrap().to_string(), "shop/a-0");
        for bad in ["shop", "shop/", "/a", "a/b/c"] {
            assert!(bad.parse::<WorkloadKey>().is_err(), "{bad}");
        }
    }
}
