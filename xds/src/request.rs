//! What a client says, in the form common to both variants.

use std::collections::BTreeMap;

/// One discovery request, free of the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The type that the request is about.
    pub type_url: String,
    /// The nonce of the response that is answered; empty if none is.
    pub nonce: String,
    /// Set if that response was rejected: the client's words (XDS.md X11).
    pub error: Option<String>,
    /// What the client wants from now on.
    pub interest: Interest,
}

/// How a request speaks of the subscription.
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
    /// The names that are asked for: all of them in state-of-the-world, those that are new in delta.
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

/// What a request meant, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The first request of its type on the stream.
    First,
    /// A response was accepted.
    Ack,
    /// A response was rejected; the client's words, cut to a bounded length.
    Nack(String),
    /// The request answers an outdated response. In state-of-the-world it counts for nothing.
    Stale,
    /// No response is answered: only the subscription changes.
    Spontaneous,
}
