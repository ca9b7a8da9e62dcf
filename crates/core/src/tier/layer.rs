//! Layers: tiers that hold a tier and change some of its calls.

use std::borrow::Cow;
use std::sync::Arc;

use super::{BatchItem, BlockingTier, BoxFuture, Call, Capability, StreamingTier, Tier, TierReply};
use crate::Result;

/// A tier that holds a tier and changes some of its calls. The macro
/// [`forward_tier!`](crate::forward_tier) makes it a [`Tier`].
///
/// A layer sees each call through [`around`](Self::around) or [`around_many`](Self::around_many), whatever
/// the operation. Both make the call by default.
///
/// ```
/// use larder_core::Result;
/// use larder_core::tier::{TierReply, BoxFuture, Call, Layer, Tier, forward_tier};
///
/// /// Prints what is done with a tier.
/// struct Printing<T>(T);
///
/// impl<T: Tier> Layer for Printing<T> {
///     type Inner = T;
///
///     fn inner(&self) -> &T {
///         &self.0
///     }
///
///     fn around<'a, A: TierReply + 'a>(
///         &'a self,
///         call: Call<'a>,
///         make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
///     ) -> BoxFuture<'a, Result<A>> {
///         println!("{}", call.operation.name());
///         make()
///     }
/// }
///
/// forward_tier!([T: Tier] Printing<T>);
/// ```
pub trait Layer: Send + Sync + 'static {
    /// The type of the inner tier.
    type Inner: Tier + ?Sized;

    /// Returns the inner tier.
    fn inner(&self) -> &Self::Inner;

    /// Makes a call on one key, on a part of an upload, or on the whole tier.
    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        let _unchanged = call;
        make()
    }

    /// Makes a call on many keys. `make` takes the items that are passed on: all of them, or some.
    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        let _unchanged = call;
        make(Cow::Borrowed(items))
    }

    /// Makes a call of a [`BlockingTier`]. Only a layer that overrides [`inner_blocking`](Self::inner_blocking)
    /// sees such calls.
    fn around_blocking<A: TierReply>(&self, call: Call<'_>, make: impl FnOnce() -> Result<A>) -> Result<A> {
        let _unchanged = call;
        make()
    }

    /// Returns the capability of this tier.
    fn declared_capability(&self) -> Capability {
        self.inner().capability()
    }

    /// Returns whether this tier can be used now.
    fn is_usable(&self) -> bool {
        self.inner().healthy()
    }

    /// Returns the inner tier as one that streams, if this tier is to stream too.
    fn inner_streaming(&self) -> Option<&dyn StreamingTier> {
        self.inner().streaming()
    }

    /// Returns the inner tier as one that answers without a future, if this tier is to do so too.
    ///
    /// `None` by default, so that every call reaches [`around`](Self::around). A layer that overrides this
    /// does in [`around_blocking`](Self::around_blocking) what it does in `around`.
    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        None
    }
}

impl<T: Tier + ?Sized> Layer for Arc<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        self
    }

    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        T::blocking(self)
    }
}

impl<T: Tier + ?Sized> Layer for Box<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        self
    }

    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        T::blocking(self)
    }
}
