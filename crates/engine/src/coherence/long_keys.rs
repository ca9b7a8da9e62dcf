//! Keys that a notice names by their digest alone, being too long to be told.
//!
//! Who keeps a copy of an entry with a long key notes the key here, after the
//! copy's [copy_tag](super::Invalidation) was taken. What is not noted has no copy that a
//! notice could mean, as long as the list was not given up since.

use std::collections::HashMap;

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// Keys with a longer encoding may be told by their digests.
const LEN_MIN: usize = 128;
/// Bytes of keys that are noted; beyond that the list begins anew.
const BYTES_MAX: usize = 4 << 20;

/// The long keys of which there may be copies.
#[derive(Default)]
pub(super) struct LongKeys(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    keys: HashMap<u128, EncodedKey>,
    bytes: usize,
}

impl LongKeys {
    /// Notes a key; false where the list was given up for that: then every copy
    /// from before has to be distrusted.
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

    /// The key with this digest, where there may be a copy.
    pub(super) fn find(&self, digest: u128) -> Option<EncodedKey> {
        self.0.lock().keys.get(&digest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_found_by_their_digests_until_they_are_too_many() {
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
