//! Calls of a cached synchronous function.

use std::sync::Arc;
use std::time::Duration;

use super::bounds::{Kept, Keyed, SharedError};
use super::handle::Handle;

/// An answer that is returned but not stored: an excluded value, `None`, or an error. A variant that cannot
/// occur has the type `Infallible`.
#[derive(Debug)]
pub enum Passed<V, N, E> {
    /// A value that the predicate `exclude` accepts.
    Value(V),
    /// `None`, with the option `skip_none`.
    Nothing(N),
    /// An error.
    Failed(E),
}

impl<V: Clone, N: Copy, E: SharedError> Passed<V, N, E> {
    /// Takes or copies the shared answer for one caller.
    pub(super) fn own(shared: Arc<Self>) -> Self {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| match &*shared {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Nothing(nothing) => Self::Nothing(*nothing),
            Self::Failed(error) => Self::Failed(error.share()),
        })
    }
}

/// Converts an impossible value into any type.
pub fn never<T>(never: std::convert::Infallible) -> T {
    match never {}
}

/// Returns whether a predicate holds for a value.
#[inline]
pub fn excludes<V>(value: &V, predicate: impl FnOnce(&V) -> bool) -> bool {
    predicate(value)
}

/// Adapts a time to live by the value alone.
pub fn by_value<K, V>(
    ttl: impl Fn(&V) -> Duration + Send + Sync + 'static,
) -> impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static {
    move |_, value| Some(ttl(value))
}

/// Makes one caller's error from the shared one.
#[inline]
pub fn shared<E>(error: Arc<E>, share: impl FnOnce(Arc<E>) -> E) -> E {
    share(error)
}

/// Returns the cached value, or runs `body` and stores its result.
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

/// Handles a miss. The body is boxed, so that this is compiled once for each pair of types and not for each
/// function.
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

/// As [`call`], for functions with answers that are not stored. `sort` separates values from other answers,
/// and `join` makes an answer again.
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

/// The result of a loader: a value to store, or an answer to pass on.
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
