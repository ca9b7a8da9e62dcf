//! The companions of synchronous functions.

use std::time::Duration;

use larder_core::entry_meta::Tag;
use larder_core::{Error, ErrorKind, Result};

use super::bounds::{Kept, Keyed};
use super::handle::Handle;
use crate::Cache;

/// The error of companions if the cache could not be opened.
pub(super) fn not_opened() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the cache of this function could not be opened at its first use; the log has the error",
    )
}

/// Removes an entry; returns whether there was one.
pub fn purge<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> bool
where
    K: Keyed,
    V: Kept,
{
    handle.is_some_and(|handle| {
        handle.removing();
        let removed = handle.cache().remove(&key);
        handle.stored();
        removed
    })
}

/// Returns whether there is an entry.
pub fn contains<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> bool
where
    K: Keyed,
    V: Kept,
{
    handle.is_some_and(|handle| handle.cache().contains_key(&key))
}

/// Returns the value of an entry.
pub fn get<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> Option<V>
where
    K: Keyed,
    V: Kept,
{
    handle.and_then(|handle| handle.cache().get(&key))
}

/// Removes entries; returns how many existed.
pub fn purge_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> u64
where
    K: Keyed,
    V: Kept,
{
    handle.map_or(0, |handle| {
        let removed = keys.iter().filter(|key| handle.cache().remove(*key)).count();
        handle.stored();
        removed as u64
    })
}

/// Returns for each key whether there is an entry.
pub fn contains_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> Vec<bool>
where
    K: Keyed,
    V: Kept,
{
    let contains = |key: &K| handle.is_some_and(|handle| handle.cache().contains_key(key));
    keys.iter().map(contains).collect()
}

/// Returns the values of entries.
pub fn get_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> Vec<Option<V>>
where
    K: Keyed,
    V: Kept,
{
    match handle {
        Some(handle) => handle.cache().get_many(&keys),
        None => keys.iter().map(|_| None).collect(),
    }
}

/// Expires all entries with a tag.
pub fn invalidate_tag<K, V>(handle: Option<&'static Handle<K, V>>, tag: Tag) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    handle.ok_or_else(not_opened)?.cache().invalidate_tag(tag)
}

/// Removes all entries.
pub fn clear<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    let handle = handle.ok_or_else(not_opened)?;
    handle.removing();
    handle.cache().clear()
}

/// Flushes the cache.
pub fn flush<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    handle.map_or(Ok(()), |handle| handle.cache().flush())
}

/// Sets the time to live of later entries. Does not block.
pub fn set_ttl<K, V>(handle: Option<&'static Handle<K, V>>, ttl: Option<Duration>)
where
    K: Keyed,
    V: Kept,
{
    if let Some(handle) = handle {
        handle.cache().set_ttl(ttl);
    }
}

/// Returns the cache.
pub fn cache<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<Cache<K, V>>
where
    K: Keyed,
    V: Kept,
{
    handle.map(|handle| handle.cache().clone()).ok_or_else(not_opened)
}
