//! Keys: how they are looked up in memory, and how they become bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

pub use equivalent::Equivalent;
use xxhash_rust::xxh3::xxh3_128;

#[cfg(feature = "codec")]
mod canonical;
mod form;
#[cfg(feature = "codec")]
mod moment;
#[cfg(feature = "codec")]
mod named;
#[cfg(feature = "codec")]
mod place;
#[cfg(feature = "codec")]
mod sink;
#[cfg(feature = "codec")]
mod text;
#[cfg(feature = "codec")]
mod writer;

pub use form::{Canonical, CanonicalForm};
#[cfg(feature = "codec")]
pub use named::NamedKeys;

use crate::Result;
use crate::tier::EntryVersion;

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
    base: Option<EntryVersion>,
    replaces: bool,
    is_sure: bool,
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
        Self { bytes, digest, base: None, replaces: false, is_sure: true }
    }

    /// Wraps an encoding that an equal key might not have.
    pub fn unsure(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { is_sure: false, ..Self::new(bytes) }
    }

    /// Whether every equal key is known to have this encoding.
    pub fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// The same key, for a load that began when its entry had this stamp.
    #[must_use]
    pub fn based_on(self, base: EntryVersion) -> Self {
        Self { base: Some(base), ..self }
    }

    /// What a write is based on, where it is the write of a load: a change that
    /// came after it wins.
    pub fn base(&self) -> Option<EntryVersion> {
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
