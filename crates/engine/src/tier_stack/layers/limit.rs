//! The time limit layer: bounds the time of each operation of a tier that does not block.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use larder_core::stats::TierCounters;
use larder_core::tier::{
    BatchItem, BlockingTier, BoxFuture, Call, Layer, Operation, Tier, TierReply, forward_tier,
};
use larder_core::{Error, ErrorKind, Result};
use larder_exec::runtime;

use super::lazy;

/// A tier whose operations fail when they take too long.
///
/// Calls of a tier that blocks cannot be interrupted and pass through. For other tiers,
/// the future is dropped at its deadline and the call fails with
/// `ErrorKind::Unavailable`. The operation may still take effect in the tier. So a tier
/// must keep the order of its calls, and a later call wins.
///
/// `scan`, `close` and `destroy` have no limit: a scan takes as long as the tier is
/// large, and callers wait for the others on purpose.
#[derive(Debug)]
pub struct Limit<T> {
    tier: T,
    counters: Arc<TierCounters>,
    limit: Option<Duration>,
}

impl<T: Tier> Limit<T> {
    /// Gives each operation of `tier` at most `limit`, if its futures do not block.
    pub fn new(tier: T, counters: Arc<TierCounters>, limit: Duration) -> Self {
        let limit = (!tier.capability().blocking).then_some(limit);
        Self { tier, counters, limit }
    }

    fn limit_of(&self, operation: Operation) -> Option<Duration> {
        self.limit.filter(|_| !matches!(operation, Operation::Scan | Operation::Close | Operation::Destroy))
    }

    /// As [`around`](Layer::around), without a box.
    pub(super) async fn limited<A: TierReply>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<A>> + Send,
    ) -> Result<A> {
        let Some(limit) = self.limit_of(call.operation) else { return made.await };
        within(made, limit).await.unwrap_or_else(|| Err(self.given_up(limit)))
    }

    /// As [`around_many`](Layer::around_many), without a box.
    pub(super) async fn limited_many<A: TierReply>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Vec<Result<A>>> + Send,
    ) -> Vec<Result<A>> {
        let Some(limit) = self.limit_of(call.operation) else { return made.await };
        let results = within(made, limit).await;
        results.unwrap_or_else(|| (0..call.keys).map(|_| Err(self.given_up(limit))).collect())
    }

    fn given_up(&self, limit: Duration) -> Error {
        self.counters.timeouts.increment();
        Error::new(ErrorKind::Unavailable, format!("no answer within {limit:?}"))
    }
}

/// Returns the output of `call`, or `None` if it is not ready by its deadline.
///
/// The time starts with the first poll. The runtime that drives the future polls it again
/// at the deadline, see [`runtime::alarm`].
pub(crate) async fn within<F: Future>(call: F, limit: Duration) -> Option<F::Output> {
    let (mut call, mut deadline) = (pin!(call), None);
    poll_fn(|context| {
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        let now = Instant::now();
        // A deadline that `Instant` cannot represent means no limit.
        let Some(deadline) = *deadline.get_or_insert_with(|| now.checked_add(limit)) else {
            return Poll::Pending;
        };
        if now >= deadline {
            return Poll::Ready(None);
        }
        runtime::alarm(deadline);
        Poll::Pending
    })
    .await
}

impl<T: Tier> Layer for Limit<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(self.limited(call, lazy(make)))
    }

    /// A call that blocks has no limit.
    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        self.tier.blocking()
    }

    /// A batch has the time of one call, and each call that times out is counted.
    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(self.limited_many(call, lazy(|| make(Cow::Borrowed(items)))))
    }
}

forward_tier!([T: Tier] Limit<T>);
