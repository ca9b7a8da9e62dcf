//! Keys: how memory looks them up, and how they are encoded.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

pub use equivalent::Equivalent;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128;

#[cfg(feature = "codec")]
mod canonical;
mod form;
#[cfg(feature = "codec")]
mod moment;
#[cfg(feature = "codec")]
mod named;
#[cfg(feature = "codec")]
mod rewrites;
#[cfg(feature = "codec")]
mod sink;
#[cfg(feature = "codec")]
mod spellings;
#[cfg(feature = "codec")]
mod writer;

pub use form::{Canonical, CanonicalForm};
#[cfg(feature = "codec")]
pub use named::NamedKeys;

use crate::Result;

/// A value that finds the entry of a key `K`: the key itself, or its borrowed form (`str` for `String`, `[T]`
/// for `Vec<T>`, `Path` for `PathBuf`).
///
/// Memory needs only the hash and the comparison. Byte tiers need the key, which
/// [`with_key`](Lookup::with_key) lends; this costs an allocation for a borrowed form and nothing for `K`.
///
/// # Behavior
/// - Has the same hash as the equal key.
/// - `with_key` calls its argument exactly once, with a key for which [`equivalent`](Equivalent::equivalent)
///   returns true.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not find keys of the type `{K}`",
    label = "neither a `{K}` nor a borrowed form of it",
    note = "a look-up takes a reference to the key itself, or to a borrowed form: `str` for `String`, `[T]` for `Vec<T>`, `Path` for `PathBuf`",
    note = "calls with many keys take a slice of owned keys: `&[String]` in place of `&[&str]`",
    note = "a tuple of borrowed parts is no such form: build the owned key, or write a struct of the parts that implements `Hash`, `larder::Equivalent<{K}>` and `larder::Lookup<{K}>`"
)]
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

/// An encoded key with its digest, as byte tiers use it.
///
/// The digest (XXH3, 128 bits) names files and long rows. It need not be unique: the frame holds the whole
/// key, and readers compare it.
///
/// Two encoded keys are equal if their encodings are.
#[derive(Clone)]
pub struct EncodedKey {
    /// On the stack for a short key.
    bytes: SmallVec<[u8; INLINE_LEN]>,
    is_sure: bool,
}

/// Length of the longest encoding, in bytes, that is kept without an allocation.
const INLINE_LEN: usize = 48;

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
    /// Wraps an encoding that all equal keys share.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self::of(&bytes.into())
    }

    /// Copies an encoding that all equal keys share.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: SmallVec::from_slice(bytes), is_sure: true }
    }

    /// Wraps an encoding that an equal key might not have.
    pub fn unsure(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { is_sure: false, ..Self::new(bytes) }
    }

    /// Whether every equal key is known to have this encoding.
    pub fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The XXH3 digest of the encoding. Costs a pass over it.
    pub fn digest(&self) -> u128 {
        xxh3_128(&self.bytes)
    }
}

impl fmt::Debug for EncodedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedKey({:032x}, {} bytes)", self.digest(), self.bytes.len())
    }
}

/// Encodes and decodes keys.
///
/// # Behavior
/// - Equal keys have equal encodings, unequal keys have unequal ones.
/// - `decode(encode(k)) == k`.
/// - Neither method panics, whatever the bytes.
pub trait KeyCodec<K>: Send + Sync + 'static {
    /// Encodes `key`.
    fn encode(&self, key: &K) -> Result<EncodedKey>;

    /// Decodes a key.
    fn decode(&self, bytes: &[u8]) -> Result<K>;
}
