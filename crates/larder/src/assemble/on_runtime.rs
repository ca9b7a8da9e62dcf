//! A tier whose calls need a tokio runtime around them.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use larder_core::Result;
use larder_core::tier::{BatchItem, BoxFuture, Call, Layer, Tier, TierReply, forward_tier};
use tokio::runtime::Handle;

/// A tier whose futures use sockets or timers of tokio, with the runtime that drives these.
///
/// A cache polls the futures of a tier where its caller is: in a thread without a runtime, or in another
/// executor. There a socket of tokio panics: «there is no reactor running». This wrapper polls each future of
/// the tier in the context of one runtime, whichever thread polls it. The runtime drives the sockets and the
/// timers, so it needs a thread of its own: a runtime of several threads, or one of a single thread that
/// another thread runs (`block_on`). It must outlive the cache. Costs some nanoseconds a poll.
///
/// A tier that blocks its thread needs no runtime, and loses its calls without a future in this wrapper.
///
/// ```
/// # use larder::{BoxFuture, Bytes, Capability, EncodedKey, Frame, Result, Tier, Usage};
/// # struct Remote;
/// # async fn ask<T>(answer: T) -> Result<T> {
/// #     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
/// #     Ok(answer)
/// # }
/// # impl Tier for Remote {
/// #     fn kind(&self) -> TierKind { TierKind::own("remote").unwrap() }
/// #     fn capability(&self) -> Capability {
/// #         let (persistent, shared, blocking) = (false, false, false);
/// #         Capability { stores: true, persistent, shared, blocking, frame_bytes_max: 1 << 20 }
/// #     }
/// #     fn get<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
/// #         Box::pin(ask(None))
/// #     }
/// #     fn put<'a>(&'a self, _: &'a EncodedKey, _: &'a Frame) -> BoxFuture<'a, Result<()>> { Box::pin(ask(())) }
/// #     fn remove<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> { Box::pin(ask(false)) }
/// #     fn clear(&self) -> BoxFuture<'_, Result<()>> { Box::pin(ask(())) }
/// #     fn scan<'a>(&'a self, _: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
/// #         Box::pin(ask(()))
/// #     }
/// #     fn usage(&self) -> Usage { Usage::default() }
/// #     fn flush(&self) -> BoxFuture<'_, Result<()>> { Box::pin(ask(())) }
/// #     fn close(&self) -> BoxFuture<'_, Result<()>> { Box::pin(ask(())) }
/// # }
/// use larder::{OnRuntime, Position, TierKind, ucache};
///
/// let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// let pages = ucache::<u32, String>("pages")
///     .url("memory:")
///     .tier(Position::First, OnRuntime::new(runtime.handle().clone(), Remote)) // `Remote` uses tokio
///     .build()?;
/// let placement = pages.try_insert(1, "a".repeat(50_000))?; // from a thread without a runtime
/// assert_eq!(placement.home, TierKind::own("remote")?);
/// # pages.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OnRuntime<T> {
    runtime: Handle,
    tier: T,
}

impl<T> OnRuntime<T> {
    /// Polls the futures of `tier` in the context of `runtime`.
    pub fn new(runtime: Handle, tier: T) -> Self {
        Self { runtime, tier }
    }

    fn within<'a, A>(&'a self, make: impl FnOnce() -> BoxFuture<'a, A>) -> BoxFuture<'a, A>
    where
        A: 'a,
    {
        let entered = self.runtime.enter();
        let future = make();
        drop(entered);
        Box::pin(Within { runtime: &self.runtime, future })
    }
}

impl<T: fmt::Debug> fmt::Debug for OnRuntime<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnRuntime").field(&self.tier).finish()
    }
}

/// A future that is polled in the context of a runtime.
struct Within<'a, A> {
    runtime: &'a Handle,
    future: BoxFuture<'a, A>,
}

impl<A> Future for Within<'_, A> {
    type Output = A;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<A> {
        let _entered = self.runtime.enter();
        self.future.as_mut().poll(context)
    }
}

impl<T: Tier> Layer for OnRuntime<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        _: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        self.within(make)
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        _: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        self.within(|| make(Cow::Borrowed(items)))
    }
}

forward_tier!([T: Tier] OnRuntime<T>);
