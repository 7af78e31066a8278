//! Names of objects and hosts.

use std::fmt;

use eastwest_identity::Name;
pub use eastwest_identity::{is_dns_label, is_dns_subdomain};
use serde::{Serialize, Serializer};

use crate::kind::Kind;

/// What names an object in every message: `Kind/namespace/name`, or `Kind/name` without a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace, empty for cluster-wide kinds.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl ObjectRef {
    /// The reference to an object.
    pub fn new(kind: Kind, namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host name, lower case, or a wildcard: `reviews.shop.svc.cluster.local`, `*.example.org`, `*`.
///
/// A wildcard is a leading `*` followed by any suffix (POLICY.md D2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Host(Name);

impl Host {
    /// Takes a host as written; case is folded.
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase().into())
    }

    /// The host of a Kubernetes Service: `name.namespace.svc.DOMAIN`.
    pub fn of_service(name: &str, namespace: &str, cluster_domain: &str) -> Self {
        Self::new(&format!("{name}.{namespace}.svc.{cluster_domain}"))
    }

    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The suffix behind a leading `*`.
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether this host, as a pattern, covers `other` (POLICY.md D2): equal, or a wildcard whose suffix
    /// `other` ends with. A wildcard `other` is covered only by the same or a shorter wildcard.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.wildcard_suffix(), other.wildcard_suffix()) {
            (None, _) => self == other,
            (Some(suffix), None) => other.0.ends_with(suffix),
            (Some(suffix), Some(inner)) => inner.ends_with(suffix),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_by_suffix() {
        let covers = |a: &str, b: &str| Host::new(a).covers(&Host::new(b));
        assert!(covers("*", "a.b"));
        assert!(covers("*.b", "a.b"));
        assert!(covers("*-east.b", "a-east.b"));
        assert!(!covers("*.b", "a.c"));
        assert!(covers("*.b", "*.a.b"));
        assert!(!covers("*.a.b", "*.b"));
        assert!(!covers("a.b", "*.b"));
    }
}
