//! Sealed caches: what is stored tells nothing, and what was not sealed for a place is not served.

mod altered;
mod conforming;
mod contents;
mod golden;
mod nodes;
mod rotation;
mod streams;

use std::sync::Arc;

use larder::{Bytes, Cache, Keys, SealingKey, TieredBuilder};
use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::Tier;
use larder_seal::CacheKeys;
use larder_testkit::{HashMapTier, MapStorage, block_on};

/// The keys of the key with this number.
fn keys(number: u8) -> Keys {
    Keys::new(key(number))
}

fn key(number: u8) -> SealingKey {
    SealingKey::new([number; 32])
}

/// A sealed tier over a map, and the map.
struct Sealed {
    tier: Arc<dyn Tier>,
    map: HashMapTier,
}

impl Sealed {
    fn of(keys: &Keys, cache: &str, place: &str) -> Self {
        Self::on(&MapStorage::default(), keys, (cache, place))
    }

    fn on(storage: &MapStorage, keys: &Keys, (cache, place): (&str, &str)) -> Self {
        let tier = CacheKeys::new(keys, cache).seal(Arc::new(HashMapTier::on(storage)), place, keys);
        Self { tier, map: HashMapTier::on(storage) }
    }

    fn put(&self, key: &EncodedKey, frame: &Frame) {
        block_on(self.tier.put(key, frame)).unwrap();
    }

    /// What a read of `key` returns: the frame, if it is one that readers accept.
    fn served(&self, key: &EncodedKey) -> Option<Bytes> {
        let found = block_on(self.tier.get(key)).unwrap()?;
        larder_core::frame::open(&found, key).is_ok().then_some(found)
    }

    /// The frames of the map with their names.
    fn stored(&self) -> Vec<(EncodedKey, Bytes)> {
        let mut stored = Vec::new();
        let mut visit = |frame: &[u8]| {
            let name = EncodedKey::new(Head::parse(frame).unwrap().key);
            stored.push((name, Bytes::copy_from_slice(frame)));
        };
        block_on(self.map.scan(&mut visit)).unwrap();
        stored
    }

    /// Stores these bytes under a name of the map, whatever they are.
    fn plant(&self, name: &EncodedKey, bytes: &[u8]) {
        block_on(self.map.put(name, &Frame::from_parts(bytes.to_vec(), Bytes::new()))).unwrap();
    }
}

/// Builds a sealed cache without memory in front, so that each read reaches a tier.
fn built<V>(builder: TieredBuilder<String, V>, keys: &Keys) -> Cache<String, V>
where
    V: larder::EncodedCacheValue,
{
    builder.memory_bytes(0).encrypt(keys.clone()).build().unwrap()
}
