//! A discovery response and its wire format.

use std::sync::Arc;

use bytes::Bytes;

use crate::resource::{EncodedResource, Version, put_bytes};
use crate::set::{ResourceSet, join};
use crate::type_url::TypeUrl;

/// The number of a response on its stream; the nonce is its text with the stream's prefix.
pub(crate) type Serial = u64;

/// The two variants of the protocol (XDS.md X1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `DiscoveryRequest` and `DiscoveryResponse`: lists.
    StateOfTheWorld,
    /// `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`: changes.
    Delta,
}

/// One discovery response. All resources are shared with other streams.
#[derive(Debug)]
pub struct Response {
    /// Which message this becomes.
    pub variant: Variant,
    /// The type of all resources.
    pub type_url: TypeUrl,
    /// Used once on this stream.
    pub nonce: String,
    /// The version of everything that the client holds once it has applied this response.
    pub version: Version,
    /// New and changed resources; in state-of-the-world all of a type whose responses are complete.
    pub resources: Payload,
    /// Names of removed resources; empty in state-of-the-world.
    pub removed: Vec<Arc<str>>,
}

/// The resources of a response.
#[derive(Debug)]
pub enum Payload {
    /// All of a set, so that the joined bytes can be shared too.
    Whole(Arc<ResourceSet>),
    /// Some resources.
    Some(Vec<Arc<EncodedResource>>),
}

impl Payload {
    /// Recognizes a whole set.
    pub(crate) fn new(resources: Vec<Arc<EncodedResource>>, set: &Arc<ResourceSet>) -> Self {
        let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
        if resources.len() > 1 && resources.len() == set.len() && resources.iter().zip(set.iter()).all(same) {
            Self::Whole(Arc::clone(set))
        } else {
            Self::Some(resources)
        }
    }

    /// Every resource.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<EncodedResource>> {
        match self {
            Self::Whole(set) => set.iter(),
            Self::Some(resources) => resources.iter(),
        }
    }
}

/// Entries smaller than this are copied together: many small chunks cost more than the copy.
const SHARE_FROM: usize = 8 * 1024;

/// Field numbers shared by `DiscoveryResponse` and `DeltaDiscoveryResponse`; the last one is in the latter only.
const VERSION: u32 = 1;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
const REMOVED: u32 = 6;

impl Response {
    /// The encoded message in pieces: first the fields of this stream, then the resources. Large ones are shared bytes.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut head = Vec::with_capacity(160);
        put_bytes(&mut head, VERSION, self.version.to_string().as_bytes());
        put_bytes(&mut head, TYPE_URL, self.type_url.as_str().as_bytes());
        put_bytes(&mut head, NONCE, self.nonce.as_bytes());
        for name in &self.removed {
            put_bytes(&mut head, REMOVED, name.as_bytes());
        }
        let mut pieces = vec![Bytes::from(head)];
        pieces.extend(self.resource_pieces());
        pieces
    }

    fn resource_pieces(&self) -> Vec<Bytes> {
        let entry = |resource: &Arc<EncodedResource>| match self.variant {
            Variant::StateOfTheWorld => resource.sotw_entry(),
            Variant::Delta => resource.delta_entry(),
        };
        match (&self.resources, self.variant) {
            (Payload::Whole(set), Variant::StateOfTheWorld) => vec![set.joined_sotw()],
            (Payload::Whole(set), Variant::Delta) => vec![set.joined_delta()],
            (Payload::Some(resources), _) if resources.len() == 1 => resources.iter().map(entry).collect(),
            (Payload::Some(resources), _) => {
                let (big, small): (Vec<_>, Vec<_>) =
                    resources.iter().map(entry).partition(|piece| piece.len() >= SHARE_FROM);
                let small = (!small.is_empty()).then(|| join(small.into_iter()));
                small.into_iter().chain(big).collect()
            }
        }
    }
}
