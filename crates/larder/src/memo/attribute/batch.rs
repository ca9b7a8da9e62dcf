//! Batch functions: one entry for each item, and one call for the missing items.

use std::collections::HashMap;
use std::sync::Arc;

use larder_engine::WithOptions;
use parking_lot::Mutex;

use super::bounds::{Kept, Keyed, SharedError};
use super::handle::Handle;

/// The input of a batch: the items and a key for each, in their order.
#[derive(Debug)]
pub struct BatchInput<'a, K, T> {
    /// The keys.
    pub keys: Vec<K>,
    /// The items that the keys were made from.
    pub items: &'a [T],
}

/// The result for one item: a value to store, or an answer to return without storing it.
pub type ItemResult<V, I> = Result<WithOptions<V>, I>;

/// The reason why a batch has no results.
#[derive(Debug)]
pub(super) enum BatchFailure<E> {
    Failed(E),
    /// The number of answers differs from the number of items, so they cannot be matched.
    CountMismatch,
}

/// Sorts each answer of the function into stored and not stored ones.
pub fn each<T, V, I>(
    answers: Vec<I>,
    items: &[T],
    mut sort: impl FnMut(&T, I) -> ItemResult<V, I>,
) -> Vec<ItemResult<V, I>> {
    let sorted = answers.into_iter().enumerate().map(|(at, answer)| match items.get(at) {
        Some(item) => sort(item, answer),
        None => Err(answer),
    });
    sorted.collect()
}

/// Returns the answers for all items, in their order, from the cache or from `load`, which gets the missing
/// items. `join` turns a stored value into an answer.
pub fn call_batch<K, V, T, I, E>(
    handle: Option<&'static Handle<K, V>>,
    input: BatchInput<'_, K, T>,
    mut load: impl FnMut(Vec<T>) -> Result<Vec<ItemResult<V, I>>, E>,
    join: impl Fn(V) -> I,
) -> Result<Vec<I>, E>
where
    K: Keyed + Clone,
    V: Kept,
    T: Clone,
    I: Clone,
    E: SharedError,
{
    let Some(handle) = handle else { return uncached(load(input.items.to_vec()), &join) };
    let (unstored, mut ran) = (Mutex::default(), false);
    let loader = |missing: Vec<K>| {
        ran = true;
        let answers = load(input.items_of(&missing));
        values_to_store(missing, answers, &unstored)
    };
    let keys = input.keys.clone();
    let outcome = handle.cache().inner.load_many_in_thread(keys, loader);
    if ran {
        handle.stored();
    }
    match join_answers(outcome, &input.keys, &unstored, &join) {
        Ok(answers) => Ok(answers),
        Err(BatchFailure::Failed(error)) => Err(error),
        Err(BatchFailure::CountMismatch) => {
            handle.log_count_mismatch();
            uncached(load(input.items.to_vec()), &join)
        }
    }
}

impl<K: Keyed, T: Clone> BatchInput<'_, K, T> {
    /// The items of these keys, in the order of the keys.
    pub(super) fn items_of(&self, keys: &[K]) -> Vec<T> {
        let by_key: HashMap<&K, &T> = self.keys.iter().zip(self.items).collect();
        keys.iter().filter_map(|key| by_key.get(key).map(|item| (*item).clone())).collect()
    }
}

/// Answers that are not stored, by their keys.
pub(super) type UnstoredAnswers<K, I> = Mutex<HashMap<K, I>>;

/// The values to store, if each missing key has an answer.
pub(super) fn values_to_store<K: Keyed, V, I, E>(
    missing: Vec<K>,
    answers: Result<Vec<ItemResult<V, I>>, E>,
    unstored: &UnstoredAnswers<K, I>,
) -> Result<Vec<(K, WithOptions<V>)>, BatchFailure<E>> {
    let answers = answers.map_err(BatchFailure::Failed)?;
    if answers.len() != missing.len() {
        return Err(BatchFailure::CountMismatch);
    }
    let mut unstored = unstored.lock();
    let to_store = missing.into_iter().zip(answers).filter_map(|(key, answer)| match answer {
        Ok(value) => Some((key, value)),
        Err(answer) => {
            unstored.insert(key, answer);
            None
        }
    });
    Ok(to_store.collect())
}

/// Joins stored values and unstored answers, in the order of the keys.
pub(super) fn join_answers<K: Keyed, V, I: Clone, E: SharedError>(
    outcome: Result<Vec<Option<V>>, Arc<BatchFailure<E>>>,
    keys: &[K],
    unstored: &UnstoredAnswers<K, I>,
    join: &impl Fn(V) -> I,
) -> Result<Vec<I>, BatchFailure<E>> {
    let values = outcome.map_err(BatchFailure::own)?;
    let unstored = unstored.lock();
    let answers = values.into_iter().zip(keys).map(|(value, key)| match value {
        Some(value) => Some(join(value)),
        None => unstored.get(key).cloned(),
    });
    answers.collect::<Option<Vec<I>>>().ok_or(BatchFailure::CountMismatch)
}

/// The answers of a call without a cache.
pub(super) fn uncached<V, I, E>(
    answers: Result<Vec<ItemResult<V, I>>, E>,
    join: &impl Fn(V) -> I,
) -> Result<Vec<I>, E> {
    let plain =
        |answer: ItemResult<V, I>| answer.map_or_else(|answer| answer, |WithOptions(value, _)| join(value));
    answers.map(|answers| answers.into_iter().map(plain).collect())
}

impl<E: SharedError> BatchFailure<E> {
    /// Takes or copies the shared error for one caller.
    fn own(shared: Arc<Self>) -> Self {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| match &*shared {
            Self::Failed(error) => Self::Failed(error.share()),
            Self::CountMismatch => Self::CountMismatch,
        })
    }
}
