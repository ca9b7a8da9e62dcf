//! What a cache asks of its keys and values, as traits with messages of their own.

use std::hash::Hash;

#[cfg(feature = "_codec")]
use serde::Serialize;
#[cfg(feature = "_codec")]
use serde::de::DeserializeOwned;

/// The bounds of a key: `Hash + Eq + Send + Sync + 'static`. Implemented for every such type.
///
/// A shorthand for generic code. A struct that only holds a [`Cache<K, V>`](crate::Cache) needs no bounds.
///
/// ```
/// use larder::{Cache, CacheKey, CacheValue};
///
/// struct Lookups<K, V> {
///     cache: Cache<K, V>,
/// }
///
/// impl<K: CacheKey, V: CacheValue> Lookups<K, V> {
///     fn look_up(&self, key: &K) -> Option<V> {
///         self.cache.get(key)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache",
    label = "not `Hash + Eq + Send + Sync + 'static`",
    note = "a key is owned: `String` in place of `&str`; look-ups take the borrowed form",
    note = "a float is not `Eq`: its bits are, `x.to_bits()`"
)]
pub trait CacheKey: Hash + Eq + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<K: Hash + Eq + Send + Sync + 'static> CacheKey for K {}

/// The bounds of a value: `Clone + Send + Sync + 'static`. Implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a cache",
    label = "not `Clone + Send + Sync + 'static`",
    note = "a value that is not `Clone`, or expensive to clone, goes into an `Arc`"
)]
pub trait CacheValue: Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<V: Clone + Send + Sync + 'static> CacheValue for V {}

/// The bounds of a key beyond memory: [`CacheKey`], and serde's `Serialize` and `DeserializeOwned`.
/// Implemented for every such type.
#[cfg(feature = "_codec")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache beyond memory",
    label = "not `Hash + Eq + Send + Sync + 'static`, `Serialize` and `Deserialize`",
    note = "derive them: `#[derive(PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`",
    note = "a key that borrows cannot be read back: `String` in place of `&'static str`; look-ups take the borrowed form",
    note = "`mcache` asks nothing of serde"
)]
pub trait EncodedCacheKey: CacheKey + Serialize + DeserializeOwned {}

#[cfg(feature = "_codec")]
#[diagnostic::do_not_recommend]
impl<K: CacheKey + Serialize + DeserializeOwned> EncodedCacheKey for K {}

/// The bounds of a value beyond memory: [`CacheValue`], and serde's `Serialize` and `DeserializeOwned`.
/// Implemented for every such type.
#[cfg(feature = "_codec")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored beyond memory",
    label = "not `Clone + Send + Sync + 'static`, `Serialize` and `Deserialize`",
    note = "derive them: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`",
    note = "a value that borrows cannot be read back: `String` or `Arc<str>` in place of `&'static str`",
    note = "`mcache` asks nothing of serde"
)]
pub trait EncodedCacheValue: CacheValue + Serialize + DeserializeOwned {}

#[cfg(feature = "_codec")]
#[diagnostic::do_not_recommend]
impl<V: CacheValue + Serialize + DeserializeOwned> EncodedCacheValue for V {}
