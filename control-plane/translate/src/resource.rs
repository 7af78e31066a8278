//! One resource from one value: what a generator may look at, and the cache in front of it.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use eastwest_xds::{EncodedResource, TypeUrl};
use ring::digest::{Context, SHA256};

use crate::sweep::Sweep;

/// The inputs of one resource and how it is made from them. A generator sees nothing else, so the hash of its inputs
/// is a sound cache key.
pub(crate) trait Generator: Hash {
    /// Distinguishes generators whose inputs look alike.
    const KIND: &'static str;
    /// The resource, encoded.
    fn generate(&self) -> EncodedResource;
}

/// The hash of a generator's inputs.
pub(crate) type Key = [u8; 32];

/// Everything that was generated and is still in use somewhere: encoded once, shared by all.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    made: BTreeMap<Key, Arc<EncodedResource>>,
    sweep: Sweep,
}

impl Cache {
    /// The resource made from `inputs`.
    pub(crate) fn get<G: Generator>(&mut self, inputs: &G) -> Arc<EncodedResource> {
        let made = self.made.entry(key(inputs)).or_insert_with(|| Arc::new(inputs.generate()));
        Arc::clone(made)
    }

    /// Drops what only the cache holds.
    pub(crate) fn forget_unused(&mut self) {
        self.sweep.retain(&mut self.made, |resource| Arc::strong_count(resource) > 1);
    }
}

/// Encodes a message as a resource of its type.
pub(crate) fn encode<M: prost::Message>(type_url: TypeUrl, name: &str, message: &M) -> EncodedResource {
    EncodedResource::new(type_url, name, &message.encode_to_vec())
}

/// The hash of a generator's inputs.
pub(crate) fn key<G: Generator>(inputs: &G) -> Key {
    let mut digest = Digest(Context::new(&SHA256));
    G::KIND.hash(&mut digest);
    inputs.hash(&mut digest);
    let mut key = [0; 32];
    key.copy_from_slice(digest.0.finish().as_ref());
    key
}

/// A hasher without collisions.
struct Digest(Context);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the key is the whole digest.
    fn finish(&self) -> u64 {
        0
    }
}

/// A duration as Envoy has it.
pub(crate) fn envoy_duration(duration: std::time::Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    // Less than a second of nanoseconds fits.
    let nanos = i32::try_from(duration.subsec_nanos()).unwrap_or(0);
    prost_types::Duration { seconds, nanos }
}
