//! The types of resources by their short names.

use std::{fmt, str::FromStr};

use eastwest_xds::{KnownType, TypeUrl};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A type of resource that proxies are served, e.g. `cds`. The order is that in which types are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceType(&'static KnownType);

/// The text names no type of resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no type of resource: write {}", names())]
pub struct UnknownType {
    text: String,
}

impl ResourceType {
    /// All of them, in the order in which they are pushed.
    pub fn all() -> impl Iterator<Item = Self> {
        KnownType::all().filter(|known| known.short_name().is_some()).map(Self)
    }

    /// Its type URL.
    pub fn type_url(self) -> TypeUrl {
        TypeUrl::from(self.0)
    }

    /// What its resources are called, as `istioctl proxy-config` has it, e.g. `clusters`; empty for our own type.
    pub fn plural(self) -> &'static str {
        self.0.plural()
    }

    fn name(self) -> &'static str {
        self.0.short_name().unwrap_or_default()
    }
}

/// The short names, as a list of alternatives.
fn names() -> String {
    let names: Vec<_> = ResourceType::all().map(ResourceType::name).collect();
    match &names[..] {
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
        [] => String::new(),
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
        let found = Self::all().find(|one| one.name() == text);
        found.ok_or_else(|| UnknownType { text: text.to_owned() })
    }
}

impl Serialize for ResourceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
