//! An async iterator over the entries of a cache.

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec::IntoIter;

use futures_core::Stream;

use crate::AsyncCache;

/// The entries of a cache, in no order; created by [`AsyncCache::iter`].
///
/// [`next`](Self::next) returns them one by one. Also a `Stream` of `futures-core`.
pub struct Entries<K, V> {
    cache: AsyncCache<K, V>,
    keys: IntoIter<Arc<K>>,
    /// The look-up of the current key.
    look_up: Option<LookUp<K, V>>,
}

type LookUp<K, V> = Pin<Box<dyn Future<Output = Option<(Arc<K>, V)>> + Send>>;

impl<K, V> Entries<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn of(cache: AsyncCache<K, V>, keys: Vec<Arc<K>>) -> Self {
        Self { cache, keys: keys.into_iter(), look_up: None }
    }

    /// Returns the next entry; `None` at the end. Skips keys whose entry no longer exists.
    pub async fn next(&mut self) -> Option<(Arc<K>, V)> {
        poll_fn(|context| self.poll_entry(context)).await
    }

    fn poll_entry(&mut self, context: &mut Context<'_>) -> Poll<Option<(Arc<K>, V)>> {
        loop {
            if let Some(look_up) = &mut self.look_up {
                let found = ready!(look_up.as_mut().poll(context));
                self.look_up = None;
                if found.is_some() {
                    return Poll::Ready(found);
                }
            }
            let Some(key) = self.keys.next() else { return Poll::Ready(None) };
            let cache = self.cache.clone();
            self.look_up = Some(Box::pin(async move { cache.get(&*key).await.map(|value| (key, value)) }));
        }
    }
}

// Only boxed values in it are pinned.
impl<K, V> Unpin for Entries<K, V> {}

impl<K, V> Stream for Entries<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Item = (Arc<K>, V);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_entry(context)
    }
}

impl<K, V> fmt::Debug for Entries<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("keys_left", &self.keys.len()).finish_non_exhaustive()
    }
}
