//! Errors of a client that end its stream.

use crate::type_url::{EmptyTypeUrl, TypeUrl};

/// Why a stream ends. All are errors of its client; other streams are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A request without a type.
    #[error(transparent)]
    EmptyTypeUrl(#[from] EmptyTypeUrl),
    /// Every type costs memory, so a stream may ask for a bounded number of them.
    #[error("too many resource types on one stream: at most {limit}; close the stream and name fewer")]
    TooManyTypes {
        /// The number of types that one stream may name.
        limit: usize,
    },
    /// Every subscribed name costs memory, so a subscription is bounded.
    #[error("too many resource names for {type_url}: at most {limit}; unsubscribe some or use `*`")]
    TooManyNames {
        /// The type in question.
        type_url: TypeUrl,
        /// The number of names that one subscription may hold.
        limit: usize,
    },
    /// The length of a name is bounded, too.
    #[error(
        "a resource name for {type_url} has {length} bytes: at most {limit}; this is no name of a resource"
    )]
    LongName {
        /// The type in question.
        type_url: TypeUrl,
        /// Its length.
        length: usize,
        /// The length that a name may have.
        limit: usize,
    },
    /// The names and versions of all types together are bounded, too.
    #[error("the resource names of one stream take more than {limit} bytes: unsubscribe some or use `*`")]
    TooMuchHeld {
        /// The bytes that one stream may take.
        limit: usize,
    },
}
