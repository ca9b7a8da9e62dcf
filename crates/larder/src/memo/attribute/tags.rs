//! Functions whose results have tags.

use larder_core::entry_meta::EntryOptions;
use larder_engine::WithOptions;

use super::bounds::{Kept, Keyed, SharedError};
use super::call::Passed;
use super::handle::Handle;

/// A type that can be a tag.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a tag",
    label = "not text",
    note = "a tag is text: `tags = [\"users\", format!(\"user:{{id}}\")]`"
)]
pub trait Label: AsRef<str> {}

#[diagnostic::do_not_recommend]
impl<T: AsRef<str> + ?Sized> Label for T {}

/// Adds a tag. Takes a reference, so that an argument used as a tag is not consumed.
pub fn tag<T: Label + ?Sized>(options: EntryOptions, tag: &T) -> EntryOptions {
    options.tag(tag.as_ref())
}

/// Collects the tags of an expression.
pub fn tags<T: Label>(tags: impl IntoIterator<Item = T>) -> EntryOptions {
    tags.into_iter().fold(EntryOptions::new(), |options, label| tag(options, &label))
}

/// Calls a function on a value, to derive its tags.
pub fn of_value<V: ?Sized, T>(value: &V, function: impl FnOnce(&V) -> T) -> T {
    function(value)
}

/// The result of a loader with tags: a value to store, or an answer to pass on.
type Tagged<V, N, E> = Result<WithOptions<V>, Passed<V, N, E>>;

/// As [`call_sorted`](super::call::call_sorted), with options of the entry.
#[inline]
pub fn call_tagged<K, V, N, E, R>(
    handle: Option<&'static Handle<K, V>>,
    key: K,
    load: impl FnOnce() -> Tagged<V, N, E>,
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
            None => join(store(handle, key, Box::new(load))),
        },
        None => join(load().map(|WithOptions(value, _)| value)),
    }
}

#[cold]
fn store<K, V, N, E>(
    handle: &'static Handle<K, V>,
    key: K,
    load: Box<dyn FnOnce() -> Tagged<V, N, E> + '_>,
) -> Result<V, Passed<V, N, E>>
where
    K: Keyed,
    V: Kept,
    N: Copy + Send + Sync + 'static,
    E: SharedError,
{
    let mut ran = false;
    let loader = || {
        ran = true;
        load()
    };
    let outcome = handle.cache().inner.load_in_thread((key, None), loader);
    if ran && outcome.is_ok() {
        handle.stored();
    }
    outcome.map_err(Passed::own)
}
