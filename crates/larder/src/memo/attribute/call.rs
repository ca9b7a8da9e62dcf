//! A call of a cached function, by a thread.

use std::sync::Arc;
use std::time::Duration;

use super::bounds::{Kept, Keyed, SharedError};
use super::handle::Handle;

/// An answer that is handed on and not stored: a value that is excluded,
/// nothing, or an error. What cannot occur is `Infallible`.
#[derive(Debug)]
pub enum Passed<V, N, E> {
    /// A value that `exclude` holds for.
    Value(V),
    /// `None`, where `skip_none` says so.
    Nothing(N),
    /// A failure.
    Failed(E),
}

impl<V: Clone, N: Copy, E: SharedError> Passed<V, N, E> {
    /// One caller's own, of what all who called together share.
    pub(super) fn own(shared: Arc<Self>) -> Self {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| match &*shared {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Nothing(nothing) => Self::Nothing(*nothing),
            Self::Failed(error) => Self::Failed(error.share()),
        })
    }
}

/// What cannot be.
pub fn never<T>(never: std::convert::Infallible) -> T {
    match never {}
}

/// Whether a predicate holds for a value.
#[inline]
pub fn excludes<V>(value: &V, predicate: impl FnOnce(&V) -> bool) -> bool {
    predicate(value)
}

/// A time to live by the value alone.
pub fn by_value<K, V>(
    ttl: impl Fn(&V) -> Duration + Send + Sync + 'static,
) -> impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static {
    move |_, value| Some(ttl(value))
}

/// One caller's error, made from the one that all share.
#[inline]
pub fn shared<E>(error: Arc<E>, share: impl FnOnce(Arc<E>) -> E) -> E {
    share(error)
}

/// The answer of the cache, or of `body`, which is stored.
#[inline]
pub fn call<K, V>(handle: Option<&'static Handle<K, V>>, key: K, body: impl FnOnce() -> V) -> V
where
    K: Keyed,
    V: Kept,
{
    match handle {
        Some(handle) => match handle.cache().hit(&key) {
            Some(value) => value,
            None => load(handle, key, Box::new(body)),
        },
        None => body(),
    }
}

/// A miss. The body is boxed, so that this is compiled once for the types, and
/// not once for each function.
#[cold]
fn load<K, V>(handle: &'static Handle<K, V>, key: K, body: Box<dyn FnOnce() -> V + '_>) -> V
where
    K: Keyed,
    V: Kept,
{
    let mut ran = false;
    let value = handle.cache().get_with(key, || {
        ran = true;
        body()
    });
    if ran {
        handle.stored();
    }
    value
}

/// As [`call`], where not every answer is stored. `sort` says which, `join`
/// makes an answer again.
#[inline]
pub fn call_sorted<K, V, N, E, R>(
    handle: Option<&'static Handle<K, V>>,
    key: K,
    body: impl FnOnce() -> R,
    sort: impl FnOnce(R) -> Result<V, Passed<V, N, E>>,
    join: impl FnOnce(Result<V, Passed<V, N, E>>) -> R,
) -> R
where
    K: Keyed,
    V: Kept,
    N: Copy + Send + Sync + 'static,
    E: SharedError,
{
    match handle {
        Some(handle) => match handle.cache().hit(&key) {
            Some(value) => join(Ok(value)),
            None => join(load_sorted(handle, key, Box::new(|| sort(body())))),
        },
        None => body(),
    }
}

/// What a loader has: something to store, or something to pass on.
type Sorted<V, N, E> = Result<V, Passed<V, N, E>>;

#[cold]
fn load_sorted<K, V, N, E>(
    handle: &'static Handle<K, V>,
    key: K,
    body: Box<dyn FnOnce() -> Sorted<V, N, E> + '_>,
) -> Sorted<V, N, E>
where
    K: Keyed,
    V: Kept,
    N: Copy + Send + Sync + 'static,
    E: SharedError,
{
    let mut ran = false;
    let outcome = handle.cache().try_get_with(key, || {
        ran = true;
        body()
    });
    if ran && outcome.is_ok() {
        handle.stored();
    }
    outcome.map_err(Passed::own)
}
