//! Keys whose canonical form the user gives.

use super::{EncodedKey, KeyCodec};
use crate::{Error, ErrorKind, Result};

/// Gives the canonical form of a key: an equal key, the same one for all keys
/// that are equal.
pub type CanonicalForm<K> = Box<dyn Fn(&K) -> K + Send + Sync>;

/// Encodes keys by their canonical form.
///
/// # Errors
/// `encode` fails with [`ErrorKind::Codec`] where the form is not equal to the key:
/// two unequal keys could share an encoding otherwise.
pub struct Canonical<K, C> {
    form: CanonicalForm<K>,
    codec: C,
}

impl<K, C> Canonical<K, C> {
    /// Keys in the canonical form that `form` gives, encoded by `codec`.
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
