//! Keys: how they are looked up in memory, and how they become bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use equivalent::Equivalent;
use xxhash_rust::xxh3::xxh3_128;

use crate::Result;
use crate::tier::Stamp;

/// A value that finds the entry of a key `K`: the key itself, or its borrowed
/// form (`str` for `String`, `[T]` for `Vec<T>`, `Path` for `PathBuf`).
///
/// Memory needs the hash and the comparison alone. Tiers of bytes need the
/// key, which [`with_key`](Lookup::with_key) lends; that costs an allocation
/// for a borrowed form and nothing for `K`.
///
/// # Behavior
/// - Hashes as the equal key hashes.
/// - `with_key` calls its argument exactly once, with a key that
///   [`equivalent`](Equivalent::equivalent) holds for.
pub trait Lookup<K>: Hash + Equivalent<K> {
    /// Lends the key.
    fn with_key<R>(&self, f: impl FnOnce(&K) -> R) -> R;
}

impl<K: Hash + Eq> Lookup<K> for K {
    fn with_key<R>(&self, f: impl FnOnce(&K) -> R) -> R {
        f(self)
    }
}

macro_rules! borrowed_forms {
    ($($borrowed:ty => $($key:ty),+;)+) => {$($(
        impl Lookup<$key> for $borrowed {
            fn with_key<R>(&self, f: impl FnOnce(&$key) -> R) -> R {
                f(&<$key>::from(self))
            }
        }
    )+)+};
}

borrowed_forms! {
    str => String, Box<str>, Arc<str>, Rc<str>;
    Path => PathBuf, Box<Path>, Arc<Path>;
    OsStr => OsString, Box<OsStr>, Arc<OsStr>;
}

macro_rules! slice_forms {
    ($($key:ty),+) => {$(
        impl<T: Hash + Eq + Clone> Lookup<$key> for [T] {
            fn with_key<R>(&self, f: impl FnOnce(&$key) -> R) -> R {
                f(&<$key>::from(self))
            }
        }
    )+};
}

slice_forms!(Vec<T>, Box<[T]>, Arc<[T]>);

/// A key as tiers of bytes see it: its encoding and a digest of that.
///
/// The digest (XXH3, 128 bits) names files and long rows. It is not trusted
/// to be unique: the frame holds the whole key, and it is compared.
///
/// Two are equal when their encodings are.
#[derive(Clone)]
pub struct EncodedKey {
    bytes: Box<[u8]>,
    digest: u128,
    base: Option<Stamp>,
    replaces: bool,
}

impl PartialEq for EncodedKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for EncodedKey {}

impl Hash for EncodedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl EncodedKey {
    /// Wraps the encoding of a key.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        let bytes = bytes.into();
        let digest = xxh3_128(&bytes);
        Self { bytes, digest, base: None, replaces: false }
    }

    /// The same key, for a load that began when its entry had this stamp.
    #[must_use]
    pub fn based_on(self, base: Stamp) -> Self {
        Self { base: Some(base), ..self }
    }

    /// What a write is based on, where it is the write of a load: a change that
    /// came after it wins.
    pub fn base(&self) -> Option<Stamp> {
        self.base
    }

    /// The same key, for a write that is based on something and changes the entry for all
    /// versions of the program that share it. What a load gives is for its own alone.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self { replaces: true, ..self }
    }

    /// Whether a write that is based on something changes the entry for all versions.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// The whole encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The XXH3 digest of the encoding.
    pub fn digest(&self) -> u128 {
        self.digest
    }
}

impl fmt::Debug for EncodedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedKey({:032x}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// Turns keys into bytes and back.
///
/// # Behavior
/// - Equal keys have equal encodings, unequal keys unequal ones.
/// - `decode(encode(k)) == k`.
/// - Neither panics, whatever the bytes.
pub trait KeyCodec<K>: Send + Sync + 'static {
    /// The encoding of `key`.
    fn encode(&self, key: &K) -> Result<EncodedKey>;

    /// The key of an encoding.
    fn decode(&self, bytes: &[u8]) -> Result<K>;
}

#[cfg(feature = "codec")]
pub use named::NamedKeys;

#[cfg(feature = "codec")]
mod named {
    use std::any::TypeId;

    use bincode::Options;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use smallvec::SmallVec;

    use super::{EncodedKey, KeyCodec};
    use crate::{Error, ErrorKind, Result};

    /// Begins a key that stands in bincode. MessagePack never uses this byte.
    const BINCODE: u8 = 0xc1;

    /// MessagePack with field names; bincode for the keys it cannot tell apart.
    ///
    /// bincode alone would be shorter, but two keys that skip different fields
    /// have one bincode encoding; with names they never do. MessagePack in turn
    /// has one encoding for `None`, `Some(None)` and `Some(())`. So an encoding
    /// is decoded back before it is used, and must give the key: then no other
    /// key has it. Numbers, text and the like are known to come back.
    ///
    /// # Errors
    /// `encode` fails with [`ErrorKind::Codec`] for a key that neither brings
    /// back, one with a field that serde skips, say.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct NamedKeys;

    impl<K: Serialize + DeserializeOwned + Eq + 'static> KeyCodec<K> for NamedKeys {
        fn encode(&self, key: &K) -> Result<EncodedKey> {
            // Room on the stack for a short key; a longer one moves to the heap.
            let mut bytes = SmallVec::<[u8; 64]>::new();
            rmp_serde::encode::write_named(&mut bytes, key).map_err(unencodable)?;
            if comes_back::<K>() || from_names(&bytes).is_ok_and(|back: K| back == *key) {
                return Ok(EncodedKey::new(&bytes[..]));
            }
            let mut bytes = vec![BINCODE];
            fixed_width().serialize_into(&mut bytes, key).map_err(unencodable)?;
            if from_bincode(&bytes[1..]).is_ok_and(|back: K| back == *key) {
                return Ok(EncodedKey::new(bytes));
            }
            let message = "the key does not survive its encoding: decoded, it is another key";
            Err(Error::new(ErrorKind::Codec, message))
        }

        fn decode(&self, bytes: &[u8]) -> Result<K> {
            let key = match bytes.split_first() {
                Some((&BINCODE, bytes)) => from_bincode(bytes),
                _ => from_names(bytes),
            };
            key.map_err(|error| {
                Error::new(ErrorKind::Corrupt, "the key cannot be decoded").with_source(error)
            })
        }
    }

    type Source = Box<dyn std::error::Error + Send + Sync>;

    fn unencodable(error: impl Into<Source>) -> Error {
        Error::new(ErrorKind::Codec, "the key cannot be encoded").with_source(error.into())
    }

    fn from_names<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, Source> {
        Ok(rmp_serde::from_slice(bytes)?)
    }

    fn from_bincode<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, Source> {
        Ok(fixed_width().with_limit(bytes.len() as u64).deserialize(bytes)?)
    }

    fn fixed_width() -> impl Options {
        bincode::DefaultOptions::new().with_fixint_encoding()
    }

    /// Whether MessagePack is known to bring every `K` back.
    fn comes_back<K: 'static>() -> bool {
        macro_rules! is_one_of {
            ($($known:ty),+) => { $(TypeId::of::<K>() == TypeId::of::<$known>())||+ };
        }
        is_one_of!(
            bool,
            char,
            u8,
            u16,
            u32,
            u64,
            u128,
            usize,
            i8,
            i16,
            i32,
            i64,
            i128,
            isize,
            String,
            Box<str>,
            std::sync::Arc<str>,
            Vec<u8>,
            (u64, u64),
            (String, u64),
            (String, String)
        )
    }

    #[cfg(test)]
    mod tests {
        use std::collections::HashSet;
        use std::fmt::Debug;

        use serde::Deserialize;

        use super::*;

        fn check<K: Serialize + DeserializeOwned + Eq + Debug + 'static>(keys: &[K]) {
            let mut seen = HashSet::new();
            for key in keys {
                let encoded = NamedKeys.encode(key).unwrap();
                assert_eq!(KeyCodec::<K>::decode(&NamedKeys, encoded.as_bytes()).unwrap(), *key);
                assert!(seen.insert(encoded.as_bytes().to_vec()), "{key:?} meets another key");
            }
        }

        #[test]
        fn unequal_keys_have_unequal_encodings() {
            check(&[None, Some(None), Some(Some(1_u8))]);
            check(&[None, Some(())]);
            check(&[(None, 1), (Some(None), 1), (Some(Some(())), 1)]);
            check(&[vec![None], vec![Some(None)], vec![], vec![Some(Some(false))]]);
            check(&[("a:", "b"), ("a", ":b")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        }

        #[test]
        fn a_key_with_a_skipped_field_is_refused() {
            #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
            struct Half {
                seen: u8,
                #[serde(skip)]
                hidden: u8,
            }
            assert!(NamedKeys.encode(&Half { seen: 1, hidden: 0 }).is_ok());
            let error = NamedKeys.encode(&Half { seen: 1, hidden: 2 }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Codec);
        }

        #[test]
        fn any_bytes_decode_or_fail() {
            for bytes in [&[][..], &[BINCODE], &[BINCODE, 1], &[BINCODE; 40], &[0xff; 40]] {
                let _key: Result<Option<String>> = NamedKeys.decode(bytes);
            }
        }
    }
}
