//! Keys with a canonical form given by the user.

use super::{EncodedKey, KeyCodec};
use crate::{Error, ErrorKind, Result};

/// Maps a key to its canonical form: an equal key, the same one for all equal keys.
pub type CanonicalForm<K> = Box<dyn Fn(&K) -> K + Send + Sync>;

/// Encodes the canonical form of keys.
///
/// # Errors
/// `encode` fails with [`ErrorKind::Codec`] if the form is not equal to the key: otherwise two unequal keys
/// could share an encoding.
pub struct Canonical<K, C> {
    form: CanonicalForm<K>,
    codec: C,
}

impl<K, C> Canonical<K, C> {
    /// Encodes the canonical form that `form` returns, by `codec`.
    pub fn new(form: CanonicalForm<K>, codec: C) -> Self {
        Self { form, codec }
    }
}

impl<K: Eq + 'static, C: KeyCodec<K>> KeyCodec<K> for Canonical<K, C> {
    fn encode(&self, key: &K) -> Result<EncodedKey> {
        let canonical = (self.form)(key);
        if canonical != *key {
            let message = "the canonical form of a key, as `key_with` gives it, is not equal to the key";
            return Err(Error::new(ErrorKind::Codec, message));
        }
        self.codec.encode(&canonical)
    }

    fn decode(&self, bytes: &[u8]) -> Result<K> {
        self.codec.decode(bytes)
    }
}
