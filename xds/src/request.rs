//! A discovery request, in the form common to both variants.

use std::collections::BTreeMap;

/// One discovery request, free of the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The type that the request is about.
    pub type_url: String,
    /// The nonce of the response that is acknowledged or rejected; empty if there is none.
    pub nonce: String,
    /// The text of `error_detail`, if that response was rejected (NACK, XDS.md X11).
    pub error: Option<String>,
    /// The change of the subscription.
    pub interest: Interest,
}

/// How a request changes the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// State-of-the-world: the complete list of names.
    Names(Vec<String>),
    /// Delta: what changes.
    Change {
        /// Names to add; `*` stands for all.
        subscribe: Vec<String>,
        /// Names to drop; `*` ends the wildcard.
        unsubscribe: Vec<String>,
        /// Name and version of what the client already holds; counts in the first request of a type only.
        initial_versions: BTreeMap<String, String>,
    },
}

impl Interest {
    /// The length of the longest name in it, in bytes.
    pub(crate) fn longest_name(&self) -> usize {
        let length = |names: &[String]| names.iter().map(String::len).max().unwrap_or_default();
        match self {
            Self::Names(names) => length(names),
            // Names that are dropped are not kept.
            Self::Change { subscribe, initial_versions, .. } => {
                let claimed = initial_versions.keys().map(String::len).max();
                length(subscribe).max(claimed.unwrap_or_default())
            }
        }
    }

    /// The requested names: all of them in state-of-the-world, those that are new in delta.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Names(names) => names,
            Self::Change { subscribe, .. } => subscribe,
        }
    }
}

impl Default for Interest {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// The meaning of a request, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The first request of its type on the stream.
    First,
    /// A response was accepted.
    Ack,
    /// A response was rejected; the text of `error_detail`, cut to a bounded length.
    Nack(String),
    /// The nonce is not the latest one. In state-of-the-world such a request is ignored.
    Stale,
    /// No response is answered: only the subscription changes.
    Spontaneous,
}
