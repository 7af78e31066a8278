//! Roles of proxies: which types of resources each is served.

use std::fmt;

use crate::{sidecar, type_builder::TypeBuilder};

/// The role of a proxy in the mesh. It decides which types of resources the proxy gets and how they are made.
///
/// A role is a module with its [`TypeBuilder`]s, and an entry here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyRole {
    /// A proxy beside one workload, whose connections are redirected to it.
    Sidecar,
}

impl ProxyRole {
    /// The roles that are served.
    pub const ALL: [Self; 1] = [Self::Sidecar];

    /// The name, as the first part of a node id has it, and the types of resources.
    fn entry(self) -> (&'static str, &'static [&'static dyn TypeBuilder]) {
        match self {
            Self::Sidecar => ("sidecar", sidecar::TYPES),
        }
    }

    /// The role of that name; `None` if it is not served.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.entry().0 == name)
    }

    /// The types of resources that proxies of this role are served.
    pub(crate) fn types(self) -> &'static [&'static dyn TypeBuilder] {
        self.entry().1
    }
}

impl fmt::Display for ProxyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().0)
    }
}
