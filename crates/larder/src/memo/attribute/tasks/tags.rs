//! Async functions whose results have tags.

use larder_engine::WithOptions;

use crate::memo::attribute::bounds::{Kept, Keyed, SharedError};
use crate::memo::attribute::call::Passed;
use crate::memo::attribute::handle::Handle;

/// As [`call_sorted`](super::call_sorted), with options of the entry.
pub async fn call_tagged<K, V, N, E, R>(
    handle: Option<&'static Handle<K, V>>,
    key: K,
    load: impl Future<Output = Result<WithOptions<V>, Passed<V, N, E>>>,
    join: impl FnOnce(Result<V, Passed<V, N, E>>) -> R,
) -> R
where
    K: Keyed,
    V: Kept,
    N: Copy + Send + Sync + 'static,
    E: SharedError,
{
    let Some(handle) = handle else { return join(load.await.map(|WithOptions(value, _)| value)) };
    if let Some(value) = handle.tasks().hit(&key) {
        return join(Ok(value));
    }
    let mut ran = false;
    let loader = async {
        ran = true;
        load.await
    };
    let outcome = handle.tasks().inner.load_in_task(key, loader).await;
    if ran && outcome.is_ok() {
        handle.stored();
    }
    join(outcome.map_err(Passed::own))
}
