//! The derived keys of one cache and of each place where it stores entries.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use larder_core::invalidation::InvalidationRecord;
use larder_core::key::EncodedKey;
use larder_core::tier::Tier;
use larder_core::{Error, Result};
use parking_lot::{Mutex, RwLock};

use crate::derive::{DerivationPurpose, Secret, derive};
use crate::keys::{KeyId, Keys, SealingKey};
use crate::log::Tags;
use crate::short::ShortKeys;
use crate::tier::SealedTier;

/// The first byte of a name. No MessagePack encoding begins with it, so no key is equal to a name.
const NAME_MARK: u8 = 0xc1;
/// Bytes of a name.
pub(crate) const NAME_LEN: usize = 1 + 32;

/// What one cache seals with. It holds derived keys alone, not those of the user.
pub struct CacheKeys {
    cache: String,
    naming: KeyId,
    places: Mutex<Vec<Arc<PlaceKeys>>>,
    short: Arc<ShortKeys>,
}

impl CacheKeys {
    /// Derives the keys of the cache with this name.
    pub fn new(keys: &Keys, cache: &str) -> Self {
        let short = ShortKeys::new(keys, cache);
        Self {
            cache: cache.to_owned(),
            naming: keys.naming(),
            places: Mutex::default(),
            short: Arc::new(short),
        }
    }

    /// Seals what `tier` stores. `place` tells the tier from the other tiers of the cache, and from tiers
    /// with the same cache name elsewhere: a frame is only accepted in the place that it was sealed for.
    pub fn seal(&self, tier: Arc<dyn Tier>, place: &str, keys: &Keys) -> Arc<dyn Tier> {
        let place = Arc::new(self.place(place, keys));
        self.places.lock().push(Arc::clone(&place));
        Arc::new(SealedTier::new(tier, place))
    }

    /// The derived keys of a place, for what names entries there beside the tier.
    pub(crate) fn place(&self, place: &str, keys: &Keys) -> PlaceKeys {
        let place = [&*self.cache, place].map(Box::from);
        PlaceKeys {
            names: keys.naming_key().derive(DerivationPurpose::Names, &parts(&place)),
            ring: RwLock::new(Arc::new(Ring::new(keys, &place))),
            place,
        }
    }

    pub(crate) fn short(&self) -> &Arc<ShortKeys> {
        &self.short
    }

    /// The derived keys of the place that was sealed last.
    pub(crate) fn last_place(&self) -> Option<Arc<PlaceKeys>> {
        self.places.lock().last().cloned()
    }

    /// Opens the tags of records of a log that is only read.
    pub fn opened(&self, records: Vec<InvalidationRecord>) -> Vec<InvalidationRecord> {
        Tags::new(self).opened(records)
    }

    /// A number for the version of a program, which does not tell the type of its values.
    pub fn version(&self, version: u64) -> u64 {
        self.short.number(version)
    }

    /// Changes the keys that write and read, for every tier of the cache. Calls in progress end with the
    /// former ones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](larder_core::ErrorKind::Config) if another key names entries: none would be found.
    pub fn rotate(&self, keys: &Keys) -> Result<()> {
        if keys.naming() != self.naming {
            let naming = keys.naming();
            let given = format_args!("keys whose first one is {naming}");
            return Err(Error::config("encrypt", given, format!("keys whose first one is {}", self.naming)));
        }
        for place in &*self.places.lock() {
            *place.ring.write() = Arc::new(Ring::new(keys, &place.place));
        }
        Ok(())
    }
}

impl fmt::Debug for CacheKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheKeys").field("naming", &self.naming).finish_non_exhaustive()
    }
}

/// The derived keys of one tier of one cache.
pub(crate) struct PlaceKeys {
    /// The names of the cache and of the place.
    place: [Box<str>; 2],
    names: Secret,
    ring: RwLock<Arc<Ring>>,
}

impl PlaceKeys {
    /// The name of the entry of `key`. It tells nothing of the key without the secret.
    pub(crate) fn name(&self, key: &EncodedKey) -> EncodedKey {
        let hash = derive(&self.names, DerivationPurpose::Value, &[key.as_bytes()]);
        let mut name = [NAME_MARK; NAME_LEN];
        name[1..].copy_from_slice(&*hash);
        EncodedKey::new(name)
    }

    pub(crate) fn names(&self, keys: &[EncodedKey]) -> Vec<EncodedKey> {
        keys.iter().map(|key| self.name(key)).collect()
    }

    /// The present keys.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read())
    }
}

/// The ciphers of one place.
pub(crate) struct Ring {
    writing: KeyId,
    ciphers: Vec<(KeyId, XChaCha20Poly1305)>,
}

impl Ring {
    fn new(keys: &Keys, place: &[Box<str>; 2]) -> Self {
        let cipher = |key: &SealingKey| {
            let secret = key.derive(DerivationPurpose::Frames, &parts(place));
            (key.id(), XChaCha20Poly1305::new((&*secret).into()))
        };
        // The key that writes comes first.
        let others = keys.reading_keys().iter().filter(|key| key.id() != keys.writing());
        let ciphers = [keys.writing_key()].into_iter().chain(others).map(cipher).collect();
        Self { writing: keys.writing(), ciphers }
    }

    /// The identifier and the cipher of the key that writes.
    pub(crate) fn writing(&self) -> Option<(KeyId, &XChaCha20Poly1305)> {
        Some((self.writing, self.cipher(self.writing)?))
    }

    /// The cipher of a key; `None` if the cache does not have it.
    pub(crate) fn cipher(&self, id: KeyId) -> Option<&XChaCha20Poly1305> {
        self.ciphers.iter().find(|(known, _)| *known == id).map(|(_, cipher)| cipher)
    }
}

fn parts(place: &[Box<str>; 2]) -> [&[u8]; 2] {
    [place[0].as_bytes(), place[1].as_bytes()]
}
