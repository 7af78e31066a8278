//! The types of resources by the names that people know them by.

use std::{fmt, str::FromStr};

use eastwest_xds::TypeUrl;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A type of resource that proxies are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceType {
    /// Clusters.
    Cds,
    /// Endpoints.
    Eds,
    /// Listeners.
    Lds,
    /// Routes.
    Rds,
    /// Secrets; people are shown their certificates, never their keys.
    Sds,
    /// Our own [`TypeUrl::WORKLOAD_TLS`], which stock Envoy is not sent.
    Workload,
}

/// The text names no type of resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no type of resource: write cds, eds, lds, rds, sds or workload")]
pub struct UnknownType(String);

impl ResourceType {
    /// All of them, in the order in which they are pushed.
    pub const ALL: [Self; 6] = [Self::Cds, Self::Eds, Self::Lds, Self::Rds, Self::Sds, Self::Workload];

    /// Its type URL.
    pub fn type_url(self) -> TypeUrl {
        match self {
            Self::Cds => TypeUrl::CLUSTER,
            Self::Eds => TypeUrl::ENDPOINT,
            Self::Lds => TypeUrl::LISTENER,
            Self::Rds => TypeUrl::ROUTE,
            Self::Sds => TypeUrl::SECRET,
            Self::Workload => TypeUrl::WORKLOAD_TLS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cds => "cds",
            Self::Eds => "eds",
            Self::Lds => "lds",
            Self::Rds => "rds",
            Self::Sds => "sds",
            Self::Workload => "workload",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ResourceType {
    type Err = UnknownType;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| UnknownType(text.to_owned()))
    }
}

impl Serialize for ResourceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
