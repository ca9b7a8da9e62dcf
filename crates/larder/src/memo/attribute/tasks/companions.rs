//! The companions of async functions.

use larder_core::Result;
use larder_core::entry_meta::Tag;

use crate::AsyncCache;
use crate::memo::attribute::bounds::{Kept, Keyed};
use crate::memo::attribute::handle::Handle;
use crate::memo::attribute::threads::not_opened;

/// Removes an entry; returns whether there was one.
pub async fn purge<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> bool
where
    K: Keyed,
    V: Kept,
{
    let Some(handle) = handle else { return false };
    handle.removing();
    let removed = handle.tasks().remove(&key).await;
    handle.stored();
    removed
}

/// Returns whether there is an entry.
pub async fn contains<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> bool
where
    K: Keyed,
    V: Kept,
{
    match handle {
        Some(handle) => handle.tasks().contains_key(&key).await,
        None => false,
    }
}

/// Returns the value of an entry.
pub async fn get<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> Option<V>
where
    K: Keyed,
    V: Kept,
{
    handle?.tasks().get(&key).await
}

/// Removes entries; returns how many existed.
pub async fn purge_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> u64
where
    K: Keyed,
    V: Kept,
{
    let Some(handle) = handle else { return 0 };
    let mut removed = 0;
    for key in &keys {
        removed += u64::from(handle.tasks().remove(key).await);
    }
    handle.stored();
    removed
}

/// Returns for each key whether there is an entry.
pub async fn contains_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> Vec<bool>
where
    K: Keyed,
    V: Kept,
{
    let mut found = Vec::with_capacity(keys.len());
    for key in &keys {
        found.push(match handle {
            Some(handle) => handle.tasks().contains_key(key).await,
            None => false,
        });
    }
    found
}

/// Returns the values of entries.
pub async fn get_many<K, V>(handle: Option<&'static Handle<K, V>>, keys: Vec<K>) -> Vec<Option<V>>
where
    K: Keyed,
    V: Kept,
{
    match handle {
        Some(handle) => handle.tasks().get_many(&keys).await,
        None => keys.iter().map(|_| None).collect(),
    }
}

/// Expires all entries with a tag.
pub async fn invalidate_tag<K, V>(handle: Option<&'static Handle<K, V>>, tag: Tag) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    handle.ok_or_else(not_opened)?.tasks().invalidate_tag(tag).await
}

/// Removes all entries.
pub async fn clear<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    let handle = handle.ok_or_else(not_opened)?;
    handle.removing();
    handle.tasks().clear().await
}

/// Flushes the cache.
pub async fn flush<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<()>
where
    K: Keyed,
    V: Kept,
{
    match handle {
        Some(handle) => handle.tasks().flush().await,
        None => Ok(()),
    }
}

/// Returns the cache.
pub async fn cache<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<AsyncCache<K, V>>
where
    K: Keyed,
    V: Kept,
{
    handle.map(|handle| handle.tasks().clone()).ok_or_else(not_opened)
}
