//! Counts what happens to a tier.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::TierCounters;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, Draft, LoadLease, Stamp, Tier, TierKind, Usage};
use larder_core::{Bytes, Result};

use super::breaker::Refused;

/// A tier whose calls are counted; otherwise the tier it holds.
#[derive(Debug)]
pub struct Observe<T> {
    tier: T,
    counters: Arc<TierCounters>,
}

impl<T: Tier> Observe<T> {
    /// Counts the calls of `tier` in `counters`.
    pub fn new(tier: T, counters: Arc<TierCounters>) -> Self {
        Self { tier, counters }
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.tier
    }

    fn note<R>(&self, operation: &'static str, result: Result<R>) -> Result<R> {
        result.map_err(|error| {
            let error = error.in_tier(self.tier.kind()).during(operation);
            self.counters.errors.increment();
            // What the breaker refused is no news: that it opened was logged.
            if !error.source().is_some_and(|source| source.is::<Refused>()) {
                tracing::warn!(target: "larder", tier = %self.tier.kind(), operation, error = ?error, "a tier failed");
            }
            error
        })
    }

    fn count_read(&self, operation: &'static str, found: Result<Option<Bytes>>) -> Result<Option<Bytes>> {
        let found = self.note(operation, found)?;
        match &found {
            Some(bytes) => {
                self.counters.hits.increment();
                self.counters.bytes_read.add(bytes.len() as u64);
            }
            None => self.counters.misses.increment(),
        }
        Ok(found)
    }

    fn count_written(&self, operation: &'static str, stored: Result<()>, frame: &Frame) -> Result<()> {
        self.count_stored(operation, stored.map(|()| true), frame).map(drop)
    }

    fn count_stored(&self, operation: &'static str, stored: Result<bool>, frame: &Frame) -> Result<bool> {
        let stored = self.note(operation, stored)?;
        if stored {
            self.counters.puts.increment();
            self.counters.bytes_written.add(frame.len() as u64);
        }
        Ok(stored)
    }

    fn count_removed(&self, operation: &'static str, removed: Result<bool>) -> Result<bool> {
        let removed = self.note(operation, removed)?;
        if removed {
            self.counters.removes.increment();
        }
        Ok(removed)
    }
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
            let found = self.tier.get(key).await;
            self.count_read("get", found)
        })
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { self.note("head", self.tier.head(key).await) })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let stored = self.tier.put(key, frame).await;
            self.count_written("put", stored, frame)
        })
    }

    /// A frame that is opened counts as read whole.
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let found = self.note("open", self.tier.open(key).await)?;
            match &found {
                Some(stored) => {
                    self.counters.hits.increment();
                    self.counters.bytes_read.add(stored.len);
                }
                None => self.counters.misses.increment(),
            }
            Ok(found)
        })
    }

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Draft>> {
        Box::pin(async move { self.note("draft", self.tier.draft(key, head_len).await) })
    }

    fn append<'a>(&'a self, draft: &'a mut Draft, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.note("append", self.tier.append(draft, bytes).await)?;
            self.counters.bytes_written.add(bytes.len() as u64);
            Ok(())
        })
    }

    fn publish<'a>(&'a self, key: &'a EncodedKey, draft: Draft, head: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.note("publish", self.tier.publish(key, draft, head).await)?;
            self.counters.puts.increment();
            self.counters.bytes_written.add(head.len() as u64);
            Ok(())
        })
    }

    fn stamp(&self, key: &EncodedKey) -> Option<Stamp> {
        self.tier.stamp(key)
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let removed = self.tier.remove(key).await;
            self.count_removed("remove", removed)
        })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.note("contains", self.tier.contains(key).await) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.note("clear", self.tier.clear().await) })
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.note("scan", self.tier.scan(visit).await) })
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.note("flush", self.tier.flush().await) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.note("close", self.tier.close().await) })
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.note("destroy", self.tier.destroy().await) })
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(async move {
            let found = self.tier.get_many(keys).await;
            found.into_iter().map(|found| self.count_read("get_many", found)).collect()
        })
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let stored = self.tier.put_many(entries).await.into_iter().zip(entries);
            stored.map(|(stored, (_, frame))| self.count_written("put_many", stored, frame)).collect()
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let removed = self.tier.remove_many(keys).await;
            removed.into_iter().map(|removed| self.count_removed("remove_many", removed)).collect()
        })
    }

    fn era(&self, key: &EncodedKey) -> u64 {
        self.tier.era(key)
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        Box::pin(async move { self.note("lease_load", self.tier.lease_load(key, span).await) })
    }

    fn release_load(&self, key: &EncodedKey, number: u64) {
        self.tier.release_load(key, number);
    }

    fn get_stamped<'a>(
        &'a self,
        key: &'a EncodedKey,
    ) -> BoxFuture<'a, Result<(Option<Bytes>, Option<Stamp>)>> {
        Box::pin(async move {
            match self.tier.get_stamped(key).await {
                Ok((found, stamp)) => Ok((self.count_read("get_stamped", Ok(found))?, stamp)),
                Err(error) => self.count_read("get_stamped", Err(error)).map(|found| (found, None)),
            }
        })
    }

    fn put_if_unchanged<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let stored = self.tier.put_if_unchanged(key, frame).await;
            self.count_stored("put_if_unchanged", stored, frame)
        })
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let taken = self.count_read("take", self.tier.take(key).await)?;
            if taken.is_some() {
                self.counters.removes.increment();
            }
            Ok(taken)
        })
    }

    fn healthy(&self) -> bool {
        self.tier.healthy()
    }
}
