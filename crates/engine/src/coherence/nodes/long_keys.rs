//! Long keys that a notice names only by their digest.
//!
//! A reader that keeps a copy of an entry with a long key notes the key here, after it
//! took the [`CopyTag`](super::CopyTag) of the copy. So a digest that is not listed has
//! no copy to drop, unless the list was reset in between.

use std::collections::HashMap;

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// Longest encoding of a key, in bytes, that is never reported by its digest.
const LEN_MIN: usize = 128;
/// Limit on the bytes of noted keys; above it the list starts empty again.
const BYTES_MAX: usize = 4 << 20;

/// Long keys that may have copies in memory.
#[derive(Default)]
pub(super) struct LongKeys(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    keys: HashMap<u128, EncodedKey>,
    bytes: usize,
}

impl LongKeys {
    /// Notes a key. Returns false if the list was reset to make room: then every earlier
    /// copy must be distrusted.
    pub(super) fn note(&self, key: &EncodedKey) -> bool {
        let len = key.as_bytes().len();
        if len <= LEN_MIN {
            return true;
        }
        let (digest, mut noted) = (key.digest(), self.0.lock());
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
        let (short, long) = (key(1, 100), key(2, 300));
        assert!(keys.note(&short) && keys.note(&long) && keys.note(&long));
        assert_eq!(keys.find(short.digest()), None);
        assert_eq!(keys.find(long.digest()), Some(long.clone()));
        assert!(keys.note(&key(3, BYTES_MAX / 2)));
        assert!(!keys.note(&key(4, BYTES_MAX / 2)), "it begins anew");
        assert_eq!(
            (keys.find(long.digest()), keys.find(key(4, BYTES_MAX / 2).digest()).is_some()),
            (None, true)
        );
    }
}
