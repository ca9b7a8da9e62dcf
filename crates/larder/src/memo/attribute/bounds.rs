//! The trait bounds of cached functions, with their compiler messages.

use std::hash::Hash;
use std::marker::PhantomData;

/// The bounds on a key of a cache in memory.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache",
    label = "something in it is not `Hash + Eq + Send + Sync + 'static`",
    note = "leave an argument out with `skip(..)`, or make an owned key: `key = \"(self.id, name.to_owned())\"`"
)]
pub trait Keyed: Hash + Eq + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<K: Hash + Eq + Send + Sync + 'static> Keyed for K {}

/// The bounds on a value of a cache in memory.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a cache",
    label = "not `Clone + Send + Sync + 'static`",
    note = "a value that is not `Clone`, or expensive to clone, goes into an `Arc`"
)]
pub trait Kept: Clone + Send + Sync + 'static {
    /// The value itself. If it cannot be stored, the compiler reports this once, and reports no further
    /// errors about types that are named through this one.
    type Value;
}

#[diagnostic::do_not_recommend]
impl<V: Clone + Send + Sync + 'static> Kept for V {
    type Value = V;
}

/// A borrowed argument whose owned form can be part of a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key",
    label = "not `Hash + Eq + Clone + Send + Sync + 'static`",
    note = "leave the argument out with `skip(..)`, or say what the key is made of with `key = \"..\"`",
    note = "floats are understood where they are written as `f64` or `f32`, also in tuples, options and slices"
)]
pub trait Part {
    /// Its owned form; see [`Kept::Value`].
    type Owned;

    /// Makes the owned form.
    fn owned(&self) -> Self::Owned;
}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Hash + Eq + Send + Sync + 'static> + ?Sized> Part for T {
    type Owned = T::Owned;

    #[inline]
    fn owned(&self) -> T::Owned {
        self.to_owned()
    }
}

/// Checks in a signature, which the compiler examines first, whether an argument can be part of a key.
#[derive(Debug)]
pub struct MemoryPart<T: Part + ?Sized>(PhantomData<T>);

/// Checks whether a value can be stored.
#[derive(Debug)]
pub struct MemoryValue<T: Kept>(PhantomData<T>);

#[cfg(feature = "_codec")]
pub use encoded::{Encoded, EncodedPart, EncodedValue, TieredPart, TieredValue};

/// The bounds on keys and values that are encoded.
#[cfg(feature = "_codec")]
mod encoded {
    use std::hash::Hash;
    use std::marker::PhantomData;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    /// The bounds on a key of a cache with byte tiers.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be the key of a cache beyond memory",
        label = "something in it is not `Hash + Eq + Send + Sync + 'static`, `Serialize` and `Deserialize`",
        note = "leave an argument out with `skip(..)`, or make an owned key: `key = \"(self.id, name.to_owned())\"`"
    )]
    pub trait Encoded: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static {}

    #[diagnostic::do_not_recommend]
    impl<K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static> Encoded for K {}

    /// A borrowed argument whose owned form can be part of an encoded key.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be part of a key beyond memory",
        label = "not `Hash + Eq + Clone + Send + Sync + 'static`, `Serialize` and `Deserialize`",
        note = "leave the argument out with `skip(..)`, or say what the key is made of with `key = \"..\"`",
        note = "#[mcache] asks nothing of serde"
    )]
    pub trait EncodedPart {
        /// See [`Part::Owned`](super::Part::Owned).
        type Owned;

        /// See [`Part::owned`](super::Part::owned).
        fn owned(&self) -> Self::Owned;
    }

    #[diagnostic::do_not_recommend]
    impl<T: ToOwned<Owned: Encoded> + ?Sized> EncodedPart for T {
        type Owned = T::Owned;

        #[inline]
        fn owned(&self) -> T::Owned {
            self.to_owned()
        }
    }

    /// A value that can be encoded.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be stored beyond memory",
        label = "not `Clone + Send + Sync + 'static`, `Serialize` and `Deserialize`",
        note = "#[mcache] asks nothing of serde"
    )]
    pub trait EncodedValue: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
        /// See [`Kept::Value`](super::Kept::Value).
        type Value;
    }

    #[diagnostic::do_not_recommend]
    impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> EncodedValue for V {
        type Value = V;
    }

    /// See [`MemoryPart`](super::MemoryPart).
    #[derive(Debug)]
    pub struct TieredPart<T: EncodedPart + ?Sized>(PhantomData<T>);

    /// See [`MemoryValue`](super::MemoryValue).
    #[derive(Debug)]
    pub struct TieredValue<T: EncodedValue>(PhantomData<T>);
}

/// An error that concurrent callers share.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a cached function cannot be shared",
    label = "callers of one failed call all get its error, so it has to be `Clone + Send + Sync + 'static`",
    note = "or make one from an `Arc` of it, with `share_err = path`: a function from `Arc<{Self}>` to `{Self}`"
)]
pub trait SharedError: Send + Sync + 'static {
    /// Returns the error for one more caller.
    #[doc(hidden)]
    fn share(&self) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: Clone + Send + Sync + 'static> SharedError for E {
    fn share(&self) -> Self {
        self.clone()
    }
}

/// The type parameters of a `Result`.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a `Result`", label = "taken for a `Result`")]
pub trait Fallible {
    /// The type in `Ok`.
    type Value;
    /// The type in `Err`.
    type Error;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// The type parameter of an `Option`.
#[diagnostic::on_unimplemented(
    message = "`skip_none` is for functions that return an `Option`, and this is `{Self}`",
    label = "not an `Option`"
)]
pub trait Maybe {
    /// The type in `Some`.
    type Value;
}

impl<T> Maybe for Option<T> {
    type Value = T;
}

/// The type parameter of a `Vec`.
#[diagnostic::on_unimplemented(
    message = "`batch` is for functions that return a `Vec` with a result for each item, and this is `{Self}`",
    label = "not a `Vec`"
)]
pub trait Many {
    /// The type of an item.
    type Item;
}

impl<T> Many for Vec<T> {
    type Item = T;
}

/// Detects at compile time whether a type is a `Result`, also behind an alias: an inherent constant takes
/// precedence over one of a trait.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T, E> Probe<Result<T, E>> {
    /// True for a `Result`.
    pub const IS_RESULT: bool = true;
}

/// The fallback for all other types.
pub trait NoResult {
    /// False for all other types.
    const IS_RESULT: bool = false;
}

impl<T> NoResult for Probe<T> {}
