//! All layers around a tier, with one future for a call of it.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Clock;
use larder_core::stats::TierCounters;
use larder_core::tier::{BatchItem, BlockingTier, BoxFuture, Call, Layer, Tier, TierReply, forward_tier};

use super::{Breaker, Limit, Observe, lazy};

/// A tier in all its layers: [`Observe`], [`Breaker`], [`Limit`].
///
/// It does the same as these three. A call takes one allocation, where it would take one for each layer.
pub struct Layered<T> {
    observe: Observe<Breaker<Limit<T>>>,
}

impl<T: Tier> Layered<T> {
    /// Wraps `tier`. The layers count in `counters`; `clock` times the pauses of the breaker. An operation of a
    /// tier that does not block takes at most `limit`.
    pub fn new(tier: T, counters: Arc<TierCounters>, clock: &Arc<dyn Clock>, limit: Duration) -> Self {
        let limited = Limit::new(tier, Arc::clone(&counters), limit);
        let guarded = Breaker::new(limited, Arc::clone(&counters), clock);
        Self { observe: Observe::new(guarded, counters) }
    }

    /// The outermost layer.
    pub(crate) fn observe(&self) -> &Observe<Breaker<Limit<T>>> {
        &self.observe
    }

    fn breaker(&self) -> &Breaker<Limit<T>> {
        self.observe.guarded()
    }

    fn limit(&self) -> &Limit<T> {
        self.breaker().inner()
    }
}

impl<T: Tier> fmt::Debug for Layered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.observe.fmt(f)
    }
}

impl<T: Tier> Layer for Layered<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        self.limit().inner()
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(async move {
            let limited = pin!(self.limit().limited(call, lazy(make)));
            let guarded = pin!(self.breaker().guarded(call, limited));
            self.observe.observed(call, guarded).await
        })
    }

    fn around_blocking<A: TierReply>(&self, call: Call<'_>, make: impl FnOnce() -> Result<A>) -> Result<A> {
        self.observe.around_blocking(call, || self.breaker().around_blocking(call, make))
    }

    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        self.inner().blocking()
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(async move {
            let made = lazy(|| make(Cow::Borrowed(items)));
            let limited = pin!(self.limit().limited_many(call, made));
            let guarded = pin!(self.breaker().guarded_many(call, limited));
            self.observe.observed_many(call, items, guarded).await
        })
    }

    fn is_usable(&self) -> bool {
        self.breaker().is_usable()
    }
}

forward_tier!([T: Tier] Layered<T>);
