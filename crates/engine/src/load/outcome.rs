//! The types of a loader's input and answer, and the errors of a load.

use std::sync::Arc;
use std::time::Duration;

use larder_core::Bytes;
use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{AnyError, Value};
use thiserror::Error;

/// The input of a loader: the expired value, if there still is one.
#[derive(Clone, Debug)]
pub struct LoadContext<V> {
    pub(crate) stale: Option<V>,
    pub(crate) validator: Option<Bytes>,
}

impl LoadContext<Value> {
    /// Converts the context to typed values.
    pub fn typed<V: Clone + Send + Sync + 'static>(self) -> LoadContext<V> {
        LoadContext { stale: self.stale.and_then(Value::into_inner), validator: self.validator }
    }
}

impl<V> LoadContext<V> {
    /// Returns the value that has expired or is about to, if it is within its stale window.
    /// Answering [`Loaded::NotModified`] keeps it.
    pub fn stale(&self) -> Option<&V> {
        self.stale.as_ref()
    }

    /// Returns the validator that was stored with the value, for example an ETag.
    pub fn validator(&self) -> Option<&[u8]> {
        self.validator.as_deref()
    }
}

/// The answer of a loader. A plain value is [`Loaded::Value`].
///
/// ```
/// use std::time::Duration;
/// use larder_engine::Loaded;
/// use larder_core::entry_meta::EntryOptions;
///
/// let fresh = Loaded::Value(7).with(EntryOptions::new().ttl(Duration::from_secs(60)).tag("prices"));
/// assert!(matches!(fresh, Loaded::ValueWith(7, _)));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loaded<V> {
    /// Store this value with the options of the cache.
    Value(V),
    /// Store this value with options of its own.
    ValueWith(V, EntryOptions),
    /// The [stale value](LoadContext::stale) still holds: store it again.
    NotModified,
    /// There is no value. Remember that for a time.
    Absent {
        /// How long to remember it.
        ttl: Duration,
    },
    /// Return this value without storing it.
    Skip(V),
}

impl<V: Send + Sync + 'static> Loaded<V> {
    /// Converts the answer to a value of any type.
    pub fn erased(self) -> Loaded<Value> {
        match self {
            Self::Value(value) => Loaded::Value(Value::new(value)),
            Self::ValueWith(value, options) => Loaded::ValueWith(Value::new(value), options),
            Self::NotModified => Loaded::NotModified,
            Self::Absent { ttl } => Loaded::Absent { ttl },
            Self::Skip(value) => Loaded::Skip(Value::new(value)),
        }
    }
}

impl<V> Loaded<V> {
    /// Sets the options of the value, if there is one to store.
    pub fn with(self, options: EntryOptions) -> Self {
        match self {
            Self::Value(value) | Self::ValueWith(value, _) => Self::ValueWith(value, options),
            other => other,
        }
    }
}

/// The possible answers of a loader: a plain value, or a [`Loaded`].
///
/// With a plain value, `load` returns a value. With a `Loaded` it returns `None` if the answer, now
/// or earlier, was [`Loaded::Absent`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer of a loader of values of the type `{V}`",
    label = "neither a `{V}` nor a `Loaded<{V}>`",
    note = "the loader of `load` returns `Ok(value)`, or `Ok(Loaded::..)` for an absence, a validator or options of the entry"
)]
pub trait Answer<V>: sealed::Sealed<V> {
    /// The type that `load` returns.
    type Found;
    /// Whether `load` may return that there is no value.
    const MAY_BE_ABSENT: bool;

    /// Converts the answer to a [`Loaded`].
    fn into_loaded(self) -> Loaded<V>;

    /// Converts a value, or its absence, to the type that `load` returns.
    fn found(value: Option<V>) -> Option<Self::Found>;
}

mod sealed {
    pub trait Sealed<V> {}
    impl<V> Sealed<V> for V {}
    impl<V> Sealed<V> for super::Loaded<V> {}
}

impl<V> Answer<V> for V {
    type Found = V;
    const MAY_BE_ABSENT: bool = false;

    fn into_loaded(self) -> Loaded<V> {
        Loaded::Value(self)
    }

    fn found(value: Option<V>) -> Option<V> {
        value
    }
}

impl<V> Answer<V> for Loaded<V> {
    type Found = Option<V>;
    const MAY_BE_ABSENT: bool = true;

    fn into_loaded(self) -> Self {
        self
    }

    fn found(value: Option<V>) -> Option<Option<V>> {
        Some(value)
    }
}

/// A value with options of its own, from a loader that its caller runs.
#[derive(Clone, Debug)]
pub struct WithOptions<V>(pub V, pub EntryOptions);

/// The answer of a loader that its caller runs: `V` or [`WithOptions`] of it, or an error.
pub trait Loads<V, E> {
    #[doc(hidden)]
    fn parts(self) -> Result<(V, EntryOptions), E>;
}

impl<V, E> Loads<V, E> for Result<V, E> {
    fn parts(self) -> Result<(V, EntryOptions), E> {
        self.map(|value| (value, EntryOptions::new()))
    }
}

impl<V, E> Loads<V, E> for Result<WithOptions<V>, E> {
    fn parts(self) -> Result<(V, EntryOptions), E> {
        self.map(|WithOptions(value, options)| (value, options))
    }
}

/// One entry that a loader of many keys returned.
pub trait LoadsEntry<K, V> {
    #[doc(hidden)]
    fn parts(self) -> (K, V, EntryOptions);
}

impl<K, V> LoadsEntry<K, V> for (K, V) {
    fn parts(self) -> (K, V, EntryOptions) {
        (self.0, self.1, EntryOptions::new())
    }
}

impl<K, V> LoadsEntry<K, V> for (K, WithOptions<V>) {
    fn parts(self) -> (K, V, EntryOptions) {
        (self.0, self.1.0, self.1.1)
    }
}

/// Why `load` has no value.
///
/// It is a [`std::error::Error`] if the error of the loader can be printed. An error prints its cause or returns it as
/// its source, not both, so that a report of the chain has it once. This one prints it and has no source: an `E` need
/// not be an error (`&str`, `String` and `anyhow::Error` are none). To follow the sources of an `E` that is one, take
/// it out of [`Loader`](Self::Loader).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed. All waiters share the error.
    #[error("the loader failed: {0}")]
    Loader(Arc<E>),
    /// The loader took longer than the hard timeout. It goes on, and its value is stored unless the
    /// entry changed meanwhile.
    #[error("the loader took longer than the hard timeout")]
    Timeout,
    /// The loader panicked. The panic was caught.
    #[error("the loader panicked")]
    Panicked,
    /// The loader answered that the former value still holds, but there was none.
    #[error("the loader answered «not modified», but there is no earlier value")]
    NothingToKeep,
    /// The cache or its runtime ended before the load did.
    #[error("the cache was closed while the load was in progress")]
    Closed,
}

impl LoadError<AnyError> {
    /// Converts the loader's error to its type.
    pub fn typed<E: Send + Sync + 'static>(self) -> LoadError<E> {
        match self {
            Self::Loader(error) => match AnyError::clone(&error).into_shared() {
                Some(error) => LoadError::Loader(error),
                // Cannot happen: the engine compares the types before.
                None => LoadError::Closed,
            },
            Self::Timeout => LoadError::Timeout,
            Self::Panicked => LoadError::Panicked,
            Self::NothingToKeep => LoadError::NothingToKeep,
            Self::Closed => LoadError::Closed,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Timeout => Self::Timeout,
            Self::Panicked => Self::Panicked,
            Self::NothingToKeep => Self::NothingToKeep,
            Self::Closed => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[derive(Debug, Error)]
    #[error("the source is down")]
    struct Down(#[source] std::fmt::Error);

    #[test]
    fn cause_is_printed_once_in_a_chain_of_sources() {
        let error = LoadError::Loader(Arc::new(Down(std::fmt::Error)));
        assert_eq!(error.to_string(), "the loader failed: the source is down");
        assert!(error.source().is_none(), "it would be printed twice");
        let LoadError::Loader(down) = error else { panic!("{error}") };
        assert!(down.source().is_some(), "the loader's error has its sources");
        let text: LoadError<&str> = LoadError::Loader(Arc::new("no error type"));
        assert_eq!(text.to_string(), "the loader failed: no error type");
    }
}
