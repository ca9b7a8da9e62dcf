//! The companions of functions for tasks.

use larder_core::Result;

use crate::AsyncCache;
use crate::memo::attribute::bounds::{Kept, Keyed};
use crate::memo::attribute::handle::Handle;
use crate::memo::attribute::threads::not_opened;

/// Removes an entry; whether there was one.
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

/// Whether there is an entry.
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

/// The value of an entry.
pub async fn get<K, V>(handle: Option<&'static Handle<K, V>>, key: K) -> Option<V>
where
    K: Keyed,
    V: Kept,
{
    handle?.tasks().get(&key).await
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

/// Flushes what is stored.
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

/// The cache.
pub async fn cache<K, V>(handle: Option<&'static Handle<K, V>>) -> Result<AsyncCache<K, V>>
where
    K: Keyed,
    V: Kept,
{
    handle.map(|handle| handle.tasks().clone()).ok_or_else(not_opened)
}
