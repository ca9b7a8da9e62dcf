//! Async batch functions.

use parking_lot::Mutex;

use crate::memo::attribute::batch::{
    BatchFailure, BatchInput, ItemResult, join_answers, uncached, values_to_store,
};
use crate::memo::attribute::bounds::{Kept, Keyed, SharedError};
use crate::memo::attribute::handle::Handle;

/// As [`call_batch`](crate::memo::attribute::call_batch), for async functions.
pub async fn call_batch<K, V, T, I, E, Fut>(
    handle: Option<&'static Handle<K, V>>,
    input: BatchInput<'_, K, T>,
    mut load: impl FnMut(Vec<T>) -> Fut,
    join: impl Fn(V) -> I,
) -> Result<Vec<I>, E>
where
    K: Keyed + Clone,
    V: Kept,
    T: Clone,
    I: Clone,
    E: SharedError,
    Fut: Future<Output = Result<Vec<ItemResult<V, I>>, E>>,
{
    let Some(handle) = handle else { return uncached(load(input.items.to_vec()).await, &join) };
    let (unstored, mut ran) = (Mutex::default(), false);
    let loader = |missing: Vec<K>| {
        ran = true;
        let loading = load(input.items_of(&missing));
        let unstored = &unstored;
        async move { values_to_store(missing, loading.await, unstored) }
    };
    let keys = input.keys.clone();
    let outcome = handle.tasks().inner.load_many_in_task(keys, loader).await;
    if ran {
        handle.stored();
    }
    match join_answers(outcome, &input.keys, &unstored, &join) {
        Ok(answers) => Ok(answers),
        Err(BatchFailure::Failed(error)) => Err(error),
        Err(BatchFailure::CountMismatch) => {
            handle.log_count_mismatch();
            uncached(load(input.items.to_vec()).await, &join)
        }
    }
}
