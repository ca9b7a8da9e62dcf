//! Async functions: opening, calls, companions, streams.

mod batch;
mod companions;
mod stream;
mod tags;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use self::batch::call_batch;
pub use self::companions::{
    cache, clear, contains, contains_many, flush, get, get_many, invalidate_tag, purge, purge_many,
};
pub use self::stream::{RecordedStream, replayed};
pub use self::tags::call_tagged;
use super::bounds::{Kept, Keyed, SharedError};
use super::call::Passed;
use super::handle::Handle;
use super::lazy_cache::{Build, LazyCache, Owner};

/// A future of the handle of a function's cache: ready, or opened once this is polled.
pub enum Opening<K: Keyed, V: Kept> {
    /// The cache was opened before; `None` if that failed.
    Done(Option<&'static Handle<K, V>>),
    /// The cache is opened on the blocking pool.
    Pending(Boxed<Option<&'static Handle<K, V>>>),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<K: Keyed, V: Kept> Future for Opening<K, V> {
    type Output = Option<&'static Handle<K, V>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(handle) => Poll::Ready(*handle),
            Self::Pending(opening) => opening.as_mut().poll(context),
        }
    }
}

/// As the synchronous `open`; opens a directory on the blocking pool.
///
/// Not an `async fn`, so that a hit does not pay for its state machine.
#[inline]
pub fn open<K: Keyed, V: Kept>(lazy: &'static LazyCache, owner: Owner, build: Build<K, V>) -> Opening<K, V> {
    match lazy.ready(owner) {
        Some(handle) => Opening::Done(handle),
        None => Opening::Pending(Box::pin(open_in_blocking_pool(lazy, owner, build))),
    }
}

async fn open_in_blocking_pool<K: Keyed, V: Kept>(
    lazy: &'static LazyCache,
    owner: Owner,
    build: Build<K, V>,
) -> Option<&'static Handle<K, V>> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return lazy.open(owner, build) };
    match runtime.spawn_blocking(move || lazy.open(owner, build)).await {
        Ok(handle) => handle,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => None,
    }
}

/// Returns the cached value, or polls `body` and stores its result. On a hit `body` is never polled.
pub async fn call<K, V>(handle: Option<&'static Handle<K, V>>, key: K, body: impl Future<Output = V>) -> V
where
    K: Keyed,
    V: Kept,
{
    let Some(handle) = handle else { return body.await };
    let mut ran = false;
    let loader = async {
        ran = true;
        body.await
    };
    let value = handle.tasks().get_with(key, loader).await;
    if ran {
        handle.stored();
    }
    value
}

/// As [`call`], for functions with answers that are not stored.
pub async fn call_sorted<K, V, N, E, R>(
    handle: Option<&'static Handle<K, V>>,
    key: K,
    body: impl Future<Output = R>,
    sort: impl FnOnce(R) -> Result<V, Passed<V, N, E>>,
    join: impl FnOnce(Result<V, Passed<V, N, E>>) -> R,
) -> R
where
    K: Keyed,
    V: Kept,
    N: Copy + Send + Sync + 'static,
    E: SharedError,
{
    let Some(handle) = handle else { return body.await };
    let mut ran = false;
    let loader = async {
        ran = true;
        sort(body.await)
    };
    let outcome = handle.tasks().try_get_with(key, loader).await;
    if ran && outcome.is_ok() {
        handle.stored();
    }
    join(outcome.map_err(Passed::own))
}

impl<K: Keyed, V: Kept> fmt::Debug for Opening<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}
