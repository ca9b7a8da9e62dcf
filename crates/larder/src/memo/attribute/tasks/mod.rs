//! Functions for tasks: opening, calls, companions, streams.

mod companions;
mod stream;


pub use self::companions::{cache, clear, contains, flush, get, purge};
pub use self::stream::{RecordedStream, replayed};
use super::bounds::{Kept, Keyed, SharedError};
use super::call::Passed;
use super::handle::Handle;
use super::slot::{Build, Owner, Slot};

/// As the one for threads; a directory is opened on the blocking pool.
pub async fn open<K, V>(slot: &'static Slot, owner: Owner, build: Build<K, V>) -> Option<&'static Handle<K, V>>
where
    K: Keyed,
    V: Kept,
{
    if let Some(handle) = slot.ready(owner) {
        return handle;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return slot.open(owner, build) };
    match runtime.spawn_blocking(move || slot.open(owner, build)).await {
        Ok(handle) => handle,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => None,
    }
}

/// The answer of the cache, or of `body`, which is stored. A body that is not
/// needed is never polled.
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

/// As [`call`], where not every answer is stored.
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
