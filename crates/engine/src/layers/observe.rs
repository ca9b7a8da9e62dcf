//! Counts what happens to a tier.

use std::error::Error as _;
use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::TierCounters;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, Draft, Stamp, Tier, TierKind, Usage};
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
            let found = self.note("get", self.tier.get(key).await)?;
            match &found {
                Some(bytes) => {
                    self.counters.hits.increment();
                    self.counters.bytes_read.add(bytes.len() as u64);
                }
                None => self.counters.misses.increment(),
            }
            Ok(found)
        })
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { self.note("head", self.tier.head(key).await) })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.note("put", self.tier.put(key, frame).await)?;
            self.counters.puts.increment();
            self.counters.bytes_written.add(frame.len() as u64);
            Ok(())
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
            let removed = self.note("remove", self.tier.remove(key).await)?;
            if removed {
                self.counters.removes.increment();
            }
            Ok(removed)
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
}
