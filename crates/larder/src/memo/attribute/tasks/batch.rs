//! Async batch functions.

use parking_lot::Mutex;

use crate::memo::attribute::batch::{Asked, Each, Trouble, answers_for, concluded, whole};
use crate::memo::attribute::bounds::{Kept, Keyed, SharedError};
use crate::memo::attribute::handle::Handle;

/// As [`call_batch`](crate::memo::attribute::call_batch), for async functions.
pub async fn call_batch<K, V, T, I, E, Fut>(
    handle: Option<&'static Handle<K, V>>,
    asked: Asked<'_, K, T>,
    mut load: impl FnMut(Vec<T>) -> Fut,
    join: impl Fn(V) -> I,
) -> Result<Vec<I>, E>
where
    K: Keyed + Clone,
    V: Kept,
    T: Clone,
    I: Clone,
    E: SharedError,
    Fut: Future<Output = Result<Vec<Each<V, I>>, E>>,
{
    let Some(handle) = handle else { return whole(load(asked.items.to_vec()).await, &join) };
    let (passed, mut ran) = (Mutex::default(), false);
    let loader = |missing: Vec<K>| {
        ran = true;
        let loading = load(asked.items_of(&missing));
        let passed = &passed;
        async move { answers_for(missing, loading.await, passed) }
    };
    let keys = asked.keys.clone();
    let outcome = handle.tasks().inner.load_many_in_task(keys, loader).await;
    if ran {
        handle.stored();
    }
    match concluded(outcome, &asked.keys, &passed, &join) {
        Ok(answers) => Ok(answers),
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Uneven) => {
            handle.tell_uneven();
            whole(load(asked.items.to_vec()).await, &join)
        }
    }
}
