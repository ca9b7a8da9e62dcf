//! What the types of a cached function have to be, with messages that say so.

use std::hash::Hash;
use std::marker::PhantomData;

/// A key in memory.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache in memory",
    label = "an argument is not `Hash + Eq + Send + Sync + 'static`",
    note = "leave the argument out with `skip(..)`, or say what the key is made of with `key = \"..\"`",
    note = "floats are understood where they are written as `f64` or `f32`, also in tuples, options and slices"
)]
pub trait MemoryKey: Hash + Eq + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<K: Hash + Eq + Send + Sync + 'static> MemoryKey for K {}

/// A key that is also encoded.
#[cfg(feature = "_codec")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache beyond memory",
    label = "an argument is not `Hash + Eq + Send + Sync + 'static`, `Serialize` and `Deserialize`",
    note = "leave the argument out with `skip(..)`, or say what the key is made of with `key = \"..\"`",
    note = "#[mcache] asks nothing of serde"
)]
pub trait TieredKey: MemoryKey + serde::Serialize + serde::de::DeserializeOwned {}

#[cfg(feature = "_codec")]
#[diagnostic::do_not_recommend]
impl<K: MemoryKey + serde::Serialize + serde::de::DeserializeOwned> TieredKey for K {}

/// An error that those who called together share.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a cached function cannot be shared",
    label = "callers of one failed call all get its error, so it has to be `Clone + Send + Sync + 'static`",
    note = "or make one from an `Arc` of it, with `share_err = path`: a function from `Arc<{Self}>` to `{Self}`"
)]
pub trait SharedError: Send + Sync + 'static {
    /// The error for one more caller.
    #[doc(hidden)]
    fn share(&self) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: Clone + Send + Sync + 'static> SharedError for E {
    fn share(&self) -> Self {
        self.clone()
    }
}

/// `Result`, taken apart.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a `Result`", label = "taken for a `Result`")]
pub trait Fallible {
    /// Of `Ok`.
    type Value;
    /// Of `Err`.
    type Error;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// `Option`, taken apart.
#[diagnostic::on_unimplemented(
    message = "`skip_none` is for functions that return an `Option`, and this is `{Self}`",
    label = "not an `Option`"
)]
pub trait Maybe {
    /// Of `Some`.
    type Value;
}

impl<T> Maybe for Option<T> {
    type Value = T;
}

/// Tells at compile time whether a type is a `Result`, by whatever name: the
/// constant of the type itself goes before that of a trait.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T, E> Probe<Result<T, E>> {
    /// It is.
    pub const IS_RESULT: bool = true;
}

/// For everything else.
pub trait NoResult {
    /// It is not.
    const IS_RESULT: bool = false;
}

impl<T> NoResult for Probe<T> {}
