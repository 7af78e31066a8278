//! One resource, encoded once and shared by all streams.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::type_url::TypeUrl;

/// A content hash: equal on all replicas and after restarts (XDS.md X28). Printed as 16 hexadecimal digits.
///
/// The version of several resources is the wrapping sum of theirs, so that it can be kept up to date
/// resource by resource and does not depend on their order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The first 64 bits of SHA-256 over name and body.
    fn of(name: &str, body: &[u8]) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(&(name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(body);
        let digest = hash.finish();
        let first = digest.as_ref().iter().take(8);
        Self(first.fold(0, |bits, byte| (bits << 8) | u64::from(*byte)))
    }

    /// Reads what [`Display`](fmt::Display) prints; `None` for the versions of other control planes.
    pub fn parse(text: &str) -> Option<Self> {
        let ours = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ours.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }

    /// The version of a collection after `other` joined it.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The version of a collection after `other` left it.
    #[must_use]
    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Field 2 is `resources` in `DiscoveryResponse` and in `DeltaDiscoveryResponse`, and `resource` in `Resource`.
/// Therefore the last part of a delta entry *is* the state-of-the-world entry, and one buffer serves both.
const RESOURCES: u32 = 2;
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_NAME: u32 = 3;
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

/// A resource as it goes over the wire, encoded once for all streams of both variants.
pub struct EncodedResource {
    type_url: TypeUrl,
    name: Arc<str>,
    version: Version,
    /// `resources` entry of a `DeltaDiscoveryResponse`, tag and length included.
    frame: Bytes,
    /// Where within `frame` the entry of a `DiscoveryResponse` begins.
    sotw_start: usize,
    /// Where within `frame` the message itself begins.
    body_start: usize,
    warmed_by: Option<(TypeUrl, Arc<str>)>,
}

impl EncodedResource {
    /// Wraps `body`, the encoded message of type `type_url`. The version is computed from name and body.
    pub fn new(type_url: TypeUrl, name: &str, body: &[u8]) -> Self {
        let version = Version::of(name, body);
        let mut any = Vec::with_capacity(body.len() + type_url.as_str().len() + 12);
        put_bytes(&mut any, ANY_TYPE_URL, type_url.as_str().as_bytes());
        put_bytes(&mut any, ANY_VALUE, body);

        let mut head = Vec::with_capacity(name.len() + 24);
        put_bytes(&mut head, RESOURCE_NAME, name.as_bytes());
        put_bytes(&mut head, RESOURCE_VERSION, version.to_string().as_bytes());
        let entry_len = 1 + encoded_len_varint(any.len() as u64) + any.len();

        let mut frame = Vec::with_capacity(head.len() + entry_len + 12);
        encode_key(RESOURCES, WireType::LengthDelimited, &mut frame);
        encode_varint((head.len() + entry_len) as u64, &mut frame);
        frame.extend_from_slice(&head);
        let sotw_start = frame.len();
        put_bytes(&mut frame, RESOURCES, &any);
        let body_start = frame.len() - body.len();
        Self {
            type_url,
            name: name.into(),
            version,
            frame: frame.into(),
            sotw_start,
            body_start,
            warmed_by: None,
        }
    }

    /// Declares that a client which gets this resource, new or changed, waits until the named other resource is sent
    /// (again). An EDS cluster is warmed by its `ClusterLoadAssignment` (XDS.md X41).
    #[must_use]
    pub fn warmed_by(mut self, type_url: TypeUrl, name: &str) -> Self {
        self.warmed_by = Some((type_url, name.into()));
        self
    }

    /// The type of the message.
    pub fn type_url(&self) -> &TypeUrl {
        &self.type_url
    }

    /// The resource's name, unique within its type and view.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of the content.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The encoded message itself, shared.
    pub fn body(&self) -> Bytes {
        self.frame.slice(self.body_start..)
    }

    /// The resource that a client waits for after it got this one.
    pub(crate) fn companion(&self) -> Option<&(TypeUrl, Arc<str>)> {
        self.warmed_by.as_ref()
    }

    /// The `resources` entry of a `DiscoveryResponse`, shared.
    pub(crate) fn sotw_entry(&self) -> Bytes {
        self.frame.slice(self.sotw_start..)
    }

    /// The `resources` entry of a `DeltaDiscoveryResponse`, shared.
    pub(crate) fn delta_entry(&self) -> Bytes {
        self.frame.clone()
    }
}

/// Name, version and size only: bodies may hold keys.
impl fmt::Debug for EncodedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.frame.len() - self.body_start;
        write!(f, "{} {} ({size} bytes)", self.name, self.version)
    }
}

/// Appends one length-delimited protobuf field.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, field: u32, value: &[u8]) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(value.len() as u64, buffer);
    buffer.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_content_and_nothing_else() {
        let make = |name, body| EncodedResource::new(TypeUrl::CLUSTER, name, body).version();
        assert_eq!(make("a", b"x"), make("a", b"x"));
        assert_ne!(make("a", b"x"), make("a", b"y"));
        assert_ne!(make("a", b"bc"), make("ab", b"c"));
        assert_eq!(make("a", b"x").to_string().len(), 16);
    }

    #[test]
    fn version_reads_only_what_it_prints() {
        let version = Version::of("a", b"x");
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for foreign in ["", "v1", "+000000000000001", "ABCDEFABCDEFABCD", "2026-11-24T00:00:00Z/1"] {
            assert_eq!(Version::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn body_is_found_again_and_debug_does_not_show_it() {
        let resource = EncodedResource::new(TypeUrl::SECRET, "default", b"PRIVATE KEY");
        assert_eq!(resource.body(), "PRIVATE KEY");
        assert!(!format!("{resource:?}").contains("PRIVATE"));
    }
}
