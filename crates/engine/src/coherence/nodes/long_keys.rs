//! Keys that a notice names only by a digest: long ones, and all keys of a sealed cache.
//!
//! A reader that keeps a copy of such an entry notes the key here, after it
//! took the [`CopyTag`](super::CopyTag) of the copy. So a digest that is not listed has
//! no copy to drop, unless the list was reset in between.

use std::collections::HashMap;

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// Limit on the bytes of noted keys; above it the list starts empty again.
const BYTES_MAX: usize = 16 << 20;
/// Bytes that a noted key takes beside its encoding, at least.
const OVERHEAD: usize = 64;

/// Keys that may have copies in memory, by the digest that notices have.
#[derive(Default)]
pub(super) struct LongKeys(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    keys: HashMap<u128, EncodedKey>,
    bytes: usize,
}

impl LongKeys {
    /// Notes a key by its digest in notices, if it has one. Returns false if the list was
    /// reset to make room: then every earlier copy must be distrusted.
    pub(super) fn note(&self, key: &EncodedKey, digest: Option<u128>) -> bool {
        let Some(digest) = digest else { return true };
        let len = key.as_bytes().len() + OVERHEAD;
        let mut noted = self.0.lock();
        if noted.keys.contains_key(&digest) {
            return true;
        }
        let fits = noted.bytes + len <= BYTES_MAX;
        if !fits {
            *noted = Noted::default();
        }
        noted.bytes += len;
        noted.keys.insert(digest, key.clone());
        fits
    }

    /// Returns the key with this digest, if it may have a copy.
    pub(super) fn find(&self, digest: u128) -> Option<EncodedKey> {
        self.0.lock().keys.get(&digest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_found_by_digest_until_the_list_is_reset() {
        let keys = LongKeys::default();
        let key = |first: u8, len: usize| EncodedKey::new([&[first][..], &vec![7; len]].concat());
        let note = |key: &EncodedKey| keys.note(key, (key.as_bytes().len() > 128).then(|| key.digest()));
        let (short, long) = (key(1, 100), key(2, 300));
        assert!(note(&short) && note(&long) && note(&long));
        assert_eq!(keys.find(short.digest()), None);
        assert_eq!(keys.find(long.digest()), Some(long.clone()));
        assert!(note(&key(3, BYTES_MAX / 2)));
        assert!(!note(&key(4, BYTES_MAX / 2)), "it begins anew");
        assert_eq!(
            (keys.find(long.digest()), keys.find(key(4, BYTES_MAX / 2).digest()).is_some()),
            (None, true)
        );
    }
}
