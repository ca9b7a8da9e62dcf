//! Functions whose results have tags.

use larder_core::entry_meta::EntryOptions;
use larder_engine::WithOptions;

use super::bounds::{Kept, Keyed, SharedError};
use super::call::Passed;
use super::handle::Handle;

/// What can be a tag.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a tag",
    label = "not text",
    note = "a tag is text: `tags = [\"users\", format!(\"user:{{id}}\")]`"
)]
pub trait Label: AsRef<str> {}

#[diagnostic::do_not_recommend]
impl<T: AsRef<str> + ?Sized> Label for T {}

/// One more tag. It is lent, so that an argument that is a tag is not used up.
pub fn tag<T: Label + ?Sized>(options: EntryOptions, tag: &T) -> EntryOptions {
    options.tag(tag.as_ref())
}

/// The tags that an expression makes.
pub fn tags<T: Label>(tags: impl IntoIterator<Item = T>) -> EntryOptions {
    tags.into_iter().fold(EntryOptions::new(), |options, label| tag(options, &label))
}

/// What a function says of a value.
pub fn of_value<V: ?Sized, T>(value: &V, function: impl FnOnce(&V) -> T) -> T {
    function(value)
}

/// What a loader has that says tags as well: something to store, or something to pass on.
type Tagged<V, N, E> = Result<WithOptions<V>, Passed<V, N, E>>;

/// As [`call_sorted`](super::call::call_sorted), with what is to be said of the value.
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
    let outcome = handle.cache().inner.load_here(key, loader);
    if ran && outcome.is_ok() {
        handle.stored();
    }
    outcome.map_err(Passed::own)
}
