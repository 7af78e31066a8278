//! `google.protobuf.Any` with a shared payload.

use std::fmt;

use bytes::Bytes;
use prost::{DecodeError, Message, Name};

/// A message of any type: its type URL and its encoding.
///
/// The payload is [`Bytes`], so that one encoded resource is shared by every response that holds
/// it. `Debug` shows the payload's length only, for it may be a private key.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
#[prost(skip_debug)]
pub struct Any {
    /// `type.googleapis.com/` and the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Why [`Any::unpack`] gave no message. The creator of the `Any` made a mistake.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnpackError {
    /// It holds a message of another type.
    #[error("expected {expected}, found `{found}`")]
    WrongType {
        /// Type URL asked for.
        expected: String,
        /// Type URL of the `Any`.
        found: String,
    },
    /// The payload is not an encoding of its type.
    #[error("malformed {type_url}: {reason}")]
    Malformed {
        /// Type URL of the `Any`.
        type_url: String,
        /// What the decoder found.
        reason: DecodeError,
    },
}

impl Any {
    /// Encodes `message` under its own type URL.
    pub fn pack<M: Message + Name>(message: &M) -> Self {
        Self { type_url: M::type_url(), value: message.encode_to_vec().into() }
    }

    /// Whether this holds an `M`: the name after the last `/` decides, as protobuf has it.
    pub fn is<M: Name>(&self) -> bool {
        let name = self.type_url.rsplit_once('/').map(|(_, name)| name);
        name == Some(M::full_name().as_str())
    }

    /// Decodes the payload as an `M`.
    ///
    /// # Errors
    /// [`UnpackError`] when it is of another type or malformed.
    pub fn unpack<M: Message + Name + Default>(&self) -> Result<M, UnpackError> {
        if !self.is::<M>() {
            return Err(UnpackError::WrongType { expected: M::type_url(), found: self.type_url.clone() });
        }
        M::decode(self.value.clone())
            .map_err(|reason| UnpackError::Malformed { type_url: self.type_url.clone(), reason })
    }
}

impl Name for Any {
    const PACKAGE: &'static str = "google.protobuf";
    const NAME: &'static str = "Any";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.value.len();
        write!(f, "Any({}, {length} bytes)", self.type_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::listener::v3::Listener;

    fn cluster() -> Cluster {
        Cluster { name: "outbound|9080||reviews.shop.svc.cluster.local".into(), ..Default::default() }
    }

    #[test]
    fn packing_and_unpacking_gives_the_message_back() {
        let any = Any::pack(&cluster());
        let received = Any::decode(any.encode_to_vec().as_slice()).unwrap();
        assert_eq!(received.unpack::<Cluster>().unwrap(), cluster());
    }

    #[test]
    fn the_wire_format_is_that_of_the_well_known_type() {
        let any = Any::pack(&cluster());
        let known = prost_types::Any::decode(any.encode_to_vec().as_slice()).unwrap();
        assert_eq!(known.type_url, any.type_url);
        assert_eq!(known.value, any.value);
    }

    #[test]
    fn another_type_is_refused_by_name() {
        let error = Any::pack(&cluster()).unpack::<Listener>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected type.googleapis.com/envoy.config.listener.v3.Listener, \
             found `type.googleapis.com/envoy.config.cluster.v3.Cluster`"
        );
    }

    #[test]
    fn a_torn_payload_is_malformed() {
        let mut any = Any::pack(&cluster());
        any.value = any.value.slice(..5);
        let error = any.unpack::<Cluster>().unwrap_err();
        assert!(matches!(error, UnpackError::Malformed { .. }), "{error}");
    }
}
