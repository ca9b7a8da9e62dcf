//! The time limit layer: bounds the time of each operation of a tier that does not block.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::{ServerFacts, TierCounters};
use larder_core::stream::Stored;
use larder_core::tier::{
    BoxFuture, Capability, EntryVersion, LastRemoval, LoadLease, Tier, TierKind, Upload, Usage,
    VersionedFrame,
};
use larder_core::{Bytes, Error, ErrorKind, Result};

use larder_exec::runtime;

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

    fn bounded<'a, R: Send + 'a>(&'a self, call: BoxFuture<'a, Result<R>>) -> BoxFuture<'a, Result<R>> {
        let Some(limit) = self.limit else { return call };
        Box::pin(async move {
            let result = within(call, limit).await;
            result.unwrap_or_else(|| Err(self.given_up(limit)))
        })
    }

    /// Bounds a batch of `count` calls as [`bounded`](Self::bounded) does. The batch has
    /// the time of one call, and each call that times out is counted.
    fn bounded_many<'a, R: Send + 'a>(
        &'a self,
        count: usize,
        calls: BoxFuture<'a, Vec<Result<R>>>,
    ) -> BoxFuture<'a, Vec<Result<R>>> {
        let Some(limit) = self.limit else { return calls };
        Box::pin(async move {
            let results = within(calls, limit).await;
            results.unwrap_or_else(|| (0..count).map(|_| Err(self.given_up(limit))).collect())
        })
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
pub(crate) async fn within<T>(mut call: BoxFuture<'_, T>, limit: Duration) -> Option<T> {
    let mut deadline = None;
    poll_fn(|context| {
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        // A deadline that `Instant` cannot represent means no limit.
        let Some(deadline) = *deadline.get_or_insert_with(|| Instant::now().checked_add(limit)) else {
            return Poll::Pending;
        };
        if Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        runtime::alarm(deadline);
        Poll::Pending
    })
    .await
}

impl<T: Tier> Tier for Limit<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.bounded(self.tier.get(key))
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.bounded(self.tier.head(key))
    }

    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        self.bounded(self.tier.open(key))
    }

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        self.bounded(self.tier.draft(key, head_len))
    }

    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.bounded(self.tier.append(draft, bytes))
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        self.bounded(self.tier.publish(key, draft, head))
    }

    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tier.stamp(key)
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.bounded(self.tier.put(key, frame))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.bounded(self.tier.remove(key))
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.bounded(self.tier.contains(key))
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.bounded(self.tier.clear())
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        self.tier.scan(visit)
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn servers(&self) -> Vec<ServerFacts> {
        self.tier.servers()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.bounded(self.tier.flush())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.destroy()
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        self.bounded_many(keys.len(), self.tier.get_many(keys))
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        self.bounded_many(entries.len(), self.tier.put_many(entries))
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        self.bounded_many(keys.len(), self.tier.remove_many(keys))
    }

    fn era(&self, key: &EncodedKey) -> u64 {
        self.tier.era(key)
    }

    fn shared_time(&self, key: &EncodedKey) -> Option<Time> {
        self.tier.shared_time(key)
    }

    fn last_removal(&self, key: &EncodedKey, found: &VersionedFrame) -> LastRemoval {
        self.tier.last_removal(key, found)
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        self.bounded(self.tier.lease_load(key, span))
    }

    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        self.bounded_many(keys.len(), self.tier.lease_loads(keys, span))
    }

    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        self.bounded_many(keys.len(), self.tier.get_many_versioned(keys))
    }

    fn put_many_if_unchanged<'a>(
        &'a self,
        entries: &'a [(EncodedKey, Frame)],
    ) -> BoxFuture<'a, Vec<Result<bool>>> {
        self.bounded_many(entries.len(), self.tier.put_many_if_unchanged(entries))
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        self.tier.release_loads(leases);
    }

    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        self.bounded(self.tier.get_versioned(key))
    }

    fn put_if_unchanged<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<bool>> {
        self.bounded(self.tier.put_if_unchanged(key, frame))
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.bounded(self.tier.take(key))
    }

    fn lacks(&self, key: &EncodedKey) -> bool {
        self.tier.lacks(key)
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.tier.trouble()
    }

    fn healthy(&self) -> bool {
        self.tier.healthy()
    }
}
