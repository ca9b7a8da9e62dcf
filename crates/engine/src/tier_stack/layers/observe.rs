//! The observability layer: counts and times the calls of a tier, and puts them into
//! spans.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::latency::{Histogram, TierTimes};
use larder_core::stats::{ServerFacts, TierCounters};
use larder_core::stream::Stored;
use larder_core::tier::{
    BoxFuture, Capability, EntryVersion, LastRemoval, LoadLease, Tier, TierKind, Upload, Usage,
    VersionedFrame,
};
use larder_core::{Bytes, Result};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::breaker::Refused;
use larder_exec::uncancellable;

/// A tier whose calls are counted and timed, each in a span.
///
/// A tier that blocks is never called on an executor: the task moves to a thread that may
/// block first, unless the tier surely [lacks](Tier::lacks) the key.
///
/// Costs two clock reads and three atomic additions a call, and a check whether spans are
/// enabled. `scan`, `flush`, `close` and the parts of a stream have spans but no times,
/// because their duration depends on the amount of data.
#[derive(Debug)]
pub struct Observe<T> {
    tier: T,
    blocks: bool,
    counters: Arc<TierCounters>,
}

/// A call: its name, the histogram of its time, and its keys.
struct Call<'a> {
    operation: &'static str,
    times: Option<fn(&TierTimes) -> &Histogram>,
    key: Option<&'a EncodedKey>,
    keys: usize,
}

impl<'a> Call<'a> {
    fn new(operation: &'static str) -> Self {
        Self { operation, times: None, key: None, keys: 0 }
    }

    fn read(operation: &'static str) -> Self {
        Self { times: Some(|times| &times.get), ..Self::new(operation) }
    }

    fn write(operation: &'static str) -> Self {
        Self { times: Some(|times| &times.put), ..Self::new(operation) }
    }

    fn removal(operation: &'static str) -> Self {
        Self { times: Some(|times| &times.remove), ..Self::new(operation) }
    }

    fn of(self, key: &'a EncodedKey) -> Self {
        Self { key: Some(key), keys: 1, ..self }
    }

    fn of_many(self, keys: usize) -> Self {
        Self { keys, ..self }
    }
}

impl<T: Tier> Observe<T> {
    /// Counts the calls of `tier` in `counters`.
    pub fn new(tier: T, counters: Arc<TierCounters>) -> Self {
        Self { blocks: tier.capability().blocking, tier, counters }
    }

    /// Returns the wrapped tier.
    pub fn inner(&self) -> &T {
        &self.tier
    }

    /// Runs a call in its span, times it, and counts its failure.
    async fn watch<R>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<R>>,
        outcome: impl FnOnce(&R) -> &'static str,
    ) -> Result<R> {
        self.leave_executor().await;
        let span = self.span(&call);
        let started = Instant::now();
        let result = within(&span, made).await;
        if !result.as_ref().is_err_and(is_refusal) {
            self.time(&call, started);
        }
        span.record("outcome", result.as_ref().map_or("failed", outcome));
        span.in_scope(|| self.note(call.operation, result))
    }

    /// Runs a batch as [`watch`](Self::watch) does, with one span and one time for all.
    async fn watch_many<R>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Vec<Result<R>>>,
    ) -> Vec<Result<R>> {
        self.leave_executor().await;
        let span = self.span(&call);
        let started = Instant::now();
        let results = within(&span, made).await;
        if !results.iter().all(|result| result.as_ref().is_err_and(is_refusal)) {
            self.time(&call, started);
        }
        let failed = results.iter().any(Result::is_err);
        span.record("outcome", if failed { "failed" } else { "done" });
        let _entered = span.entered();
        results.into_iter().map(|result| self.note(call.operation, result)).collect()
    }

    /// Whether the call can be skipped: the tier surely lacks the key, and the call would
    /// have to leave the executor.
    fn spares(&self, key: &EncodedKey) -> bool {
        self.blocks && !uncancellable::may_block() && self.tier.lacks(key)
    }

    /// Moves the task to a thread that may block, if the tier blocks.
    async fn leave_executor(&self) {
        if self.blocks {
            uncancellable::on_a_thread().await;
        }
    }

    fn span(&self, call: &Call<'_>) -> Span {
        let span = tracing::trace_span!(
            target: "larder", "larder.tier",
            cache = self.counters.signals.cache(), tier = %self.tier.kind(), operation = call.operation,
            keys = call.keys, key = Empty, outcome = Empty
        );
        if let Some(key) = call.key.filter(|_| !span.is_disabled()) {
            span.record("key", tracing::field::display(format_args!("{:032x}", key.digest())));
        }
        span
    }

    fn time(&self, call: &Call<'_>, started: Instant) {
        if let Some(times) = call.times {
            times(&self.counters.times).record(started.elapsed());
        }
    }

    fn note<R>(&self, operation: &'static str, result: Result<R>) -> Result<R> {
        result.map_err(|error| {
            let error = error.in_tier(self.tier.kind()).during(operation);
            self.counters.errors.increment();
            // A refused call is not logged: the opening of the breaker was.
            if !is_refusal(&error) {
                let cache = self.counters.signals.cache();
                tracing::warn!(target: "larder", cache, tier = %self.tier.kind(), operation, error = ?error, "a tier failed");
            }
            error
        })
    }

    fn count_read(&self, found: Option<Bytes>) -> Option<Bytes> {
        match &found {
            Some(bytes) => {
                self.counters.hits.increment();
                self.counters.bytes_read.add(bytes.len() as u64);
            }
            None => self.counters.misses.increment(),
        }
        found
    }

    fn count_stored(&self, frame: &Frame) {
        self.counters.puts.increment();
        self.counters.bytes_written.add(frame.len() as u64);
    }

    fn count_removed(&self, removed: bool) -> bool {
        if removed {
            self.counters.removes.increment();
        }
        removed
    }
}

/// Runs a call in its span, if spans are enabled.
async fn within<R>(span: &Span, made: impl Future<Output = R>) -> R {
    if span.is_disabled() {
        return made.await;
    }
    made.instrument(span.clone()).await
}

fn is_refusal(error: &larder_core::Error) -> bool {
    error.source().is_some_and(|source| source.is::<Refused>())
}

fn found<T>(found: &Option<T>) -> &'static str {
    if found.is_some() { "hit" } else { "miss" }
}

fn stored(stored: &bool) -> &'static str {
    if *stored { "stored" } else { "kept" }
}

fn removed(removed: &bool) -> &'static str {
    if *removed { "removed" } else { "absent" }
}

fn done<T>(_: &T) -> &'static str {
    "done"
}

impl<T: Tier> Tier for Observe<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            if self.spares(key) {
                return Ok(self.count_read(None));
            }
            let read = self.watch(Call::read("get").of(key), self.tier.get(key), found).await?;
            Ok(self.count_read(read))
        })
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            match self.spares(key) {
                true => Ok(None),
                false => self.watch(Call::read("head").of(key), self.tier.head(key), found).await,
            }
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.watch(Call::write("put").of(key), self.tier.put(key, frame), |()| "stored").await?;
            self.count_stored(frame);
            Ok(())
        })
    }

    /// Counts an opened frame as fully read.
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let opened = self.watch(Call::read("open").of(key), self.tier.open(key), found).await?;
            match &opened {
                Some(stored) => {
                    self.counters.hits.increment();
                    self.counters.bytes_read.add(stored.len);
                }
                None => self.counters.misses.increment(),
            }
            Ok(opened)
        })
    }

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        Box::pin(self.watch(Call::new("draft").of(key), self.tier.draft(key, head_len), done))
    }

    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.note("append", self.tier.append(draft, bytes).await)?;
            self.counters.bytes_written.add(bytes.len() as u64);
            Ok(())
        })
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let call = Call::write("publish").of(key);
            self.watch(call, self.tier.publish(key, draft, head), |()| "stored").await?;
            self.counters.puts.increment();
            self.counters.bytes_written.add(head.len() as u64);
            Ok(())
        })
    }

    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tier.stamp(key)
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if self.spares(key) {
                return Ok(false);
            }
            let gone = self.watch(Call::removal("remove").of(key), self.tier.remove(key), removed).await?;
            Ok(self.count_removed(gone))
        })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        let outcome = |there: &bool| if *there { "hit" } else { "miss" };
        Box::pin(self.watch(Call::read("contains").of(key), self.tier.contains(key), outcome))
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.watch(Call::new("clear"), self.tier.clear(), done))
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.watch(Call::new("scan"), self.tier.scan(visit), done))
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn servers(&self) -> Vec<ServerFacts> {
        self.tier.servers()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.watch(Call::new("flush"), self.tier.flush(), done))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.watch(Call::new("close"), self.tier.close(), done))
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.note("destroy", self.tier.destroy().await) })
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(async move {
            let call = Call::read("get_many").of_many(keys.len());
            if keys.iter().all(|key| self.spares(key)) {
                return keys.iter().map(|_| Ok(self.count_read(None))).collect();
            }
            let read = self.watch_many(call, self.tier.get_many(keys)).await;
            read.into_iter().map(|read| Ok(self.count_read(read?))).collect()
        })
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let call = Call::write("put_many").of_many(entries.len());
            let put = self.watch_many(call, self.tier.put_many(entries)).await.into_iter().zip(entries);
            put.map(|(put, (_, frame))| put.inspect(|()| self.count_stored(frame))).collect()
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let call = Call::removal("remove_many").of_many(keys.len());
            let gone = self.watch_many(call, self.tier.remove_many(keys)).await;
            gone.into_iter().map(|gone| Ok(self.count_removed(gone?))).collect()
        })
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
        let outcome = |lease: &Option<LoadLease>| if lease.is_some() { "taken" } else { "kept" };
        Box::pin(self.watch(Call::new("lease_load").of(key), self.tier.lease_load(key, span), outcome))
    }

    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        let call = Call::new("lease_loads").of_many(keys.len());
        Box::pin(self.watch_many(call, self.tier.lease_loads(keys, span)))
    }

    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        Box::pin(async move {
            let call = Call::read("get_many_versioned").of_many(keys.len());
            let read = self.watch_many(call, self.tier.get_many_versioned(keys)).await;
            read.into_iter().map(|read| read.map(|(read, stamp)| (self.count_read(read), stamp))).collect()
        })
    }

    fn put_many_if_unchanged<'a>(
        &'a self,
        entries: &'a [(EncodedKey, Frame)],
    ) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let call = Call::write("put_many_if_unchanged").of_many(entries.len());
            let put = self.watch_many(call, self.tier.put_many_if_unchanged(entries)).await;
            for (_, (_, frame)) in put.iter().zip(entries).filter(|(put, _)| matches!(put, Ok(true))) {
                self.count_stored(frame);
            }
            put
        })
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        self.tier.release_loads(leases);
    }

    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        Box::pin(async move {
            let call = Call::read("get_versioned").of(key);
            let (read, stamp) =
                self.watch(call, self.tier.get_versioned(key), |(read, _)| found(read)).await?;
            Ok((self.count_read(read), stamp))
        })
    }

    fn put_if_unchanged<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let call = Call::write("put_if_unchanged").of(key);
            let put = self.watch(call, self.tier.put_if_unchanged(key, frame), stored).await;
            put.inspect(|put| {
                if *put {
                    self.count_stored(frame)
                }
            })
        })
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let taken = self.watch(Call::removal("take").of(key), self.tier.take(key), found).await?;
            let taken = self.count_read(taken);
            self.count_removed(taken.is_some());
            Ok(taken)
        })
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
