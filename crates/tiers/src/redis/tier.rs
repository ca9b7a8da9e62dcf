//! Implements the [`Tier`] and [`SharedTier`] traits through the calls of [`Inner`](super::Inner).

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::TryFutureExt;
use larder_core::clock::Time;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::ServerFacts;
use larder_core::tier::{
    BoxFuture, Capability, ConditionalPut, EntryVersion, LoadLease, PartitionEpoch, PutOptions, RemovalCause,
    SharedTier, Tier, TierKind, Usage, VersionedFrame,
};
use larder_core::{Bytes, Result};

use crate::redis::RedisTier;
use crate::redis::calls::FRAME_BYTES_MAX;
use crate::redis::keys::names::KeyNames;
use crate::redis::shared::compare_and_set::REMOVAL_LIFE;

/// Adds tier and operation to an error.
fn named<'a, T: 'a>(
    operation: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(work.map_err(move |error| error.in_tier(TierKind::Redis).during(operation)))
}

impl Tier for RedisTier {
    fn kind(&self) -> TierKind {
        TierKind::Redis
    }

    fn capability(&self) -> Capability {
        Capability {
            stores: true,
            persistent: true,
            shared: true,
            blocking: false,
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        named("get", self.inner.get(key))
    }

    /// Reads the first 4 KiB.
    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        named("get", self.inner.head(key))
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        named("put", self.inner.put(key, frame))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        named("remove", self.inner.remove(key))
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        named("contains", self.inner.contains(key))
    }

    /// One round trip. Old entries are unlinked in the background.
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        named("clear", async move {
            self.inner.clear().await?;
            self.spawn(Arc::clone(&self.inner).sweep());
            Ok(())
        })
    }

    /// Scans every key of the database, page by page, and reads the first 4 KiB of each entry. Keeps 16 bytes
    /// per entry in memory.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        named("scan", self.inner.scan(visit))
    }

    /// The result of the last survey, a few seconds old: exact up to 20,000 keys in the database, estimated
    /// from a sample beyond. Includes the entries of all processes that share the tier.
    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    /// The server, or the masters of a cluster, as of the last survey; empty before the first connection.
    fn servers(&self) -> Vec<ServerFacts> {
        let shards = self.inner.topology.shards().into_iter();
        shards.filter_map(|shard| shard.with_survey(|survey| survey.server.clone())).collect()
    }

    /// Counts the entries again. The tier buffers nothing; persistence is up to the server.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        named("flush", async move {
            let topology = &self.inner.topology;
            topology.check()?;
            for shard in topology.shards() {
                let mut connection = shard.supervisor.connection()?;
                let surveyed = self.inner.survey(&shard, &mut connection).await;
                surveyed.map_err(|error| topology.to_error(error))?;
            }
            Ok(())
        })
    }

    /// Closes the connections and releases the thread. A tier with [ephemeral
    /// keys](super::RedisOptions::ephemeral_ttl) first unlinks them. Calls in progress fail.
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        named("close", async move {
            self.stop_renewal();
            let left = self.inner.unlink_ephemeral().await;
            self.end();
            left
        })
    }

    /// Unlinks every key of the cache, epoch records included, page by page.
    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        named("destroy", async move {
            self.stop_renewal();
            let unlinked = self.inner.unlink_all().await;
            self.end();
            unlinked
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(self.inner.get_many(keys))
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(self.inner.put_many(entries))
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(self.inner.remove_many(keys))
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.inner.topology.unavailable_reason()
    }

    fn healthy(&self) -> bool {
        self.inner.topology.is_up()
    }

    fn shared(&self) -> Option<&dyn SharedTier> {
        Some(self)
    }
}

impl SharedTier for RedisTier {
    /// The version is computed from the entry, its last removal within the last minute, and the epoch of its
    /// partition.
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        named("get_versioned", self.inner.get_versioned(key))
    }

    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        Box::pin(self.inner.get_many_versioned(keys))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>> {
        named("compare_and_set", self.inner.compare_and_set(key, frame, options))
    }

    fn compare_and_set_many<'a>(&'a self, puts: &'a [ConditionalPut]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(self.inner.compare_and_set_many(puts))
    }

    fn compare_and_remove<'a>(
        &'a self,
        key: &'a EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> BoxFuture<'a, Result<bool>> {
        named("compare_and_remove", self.inner.compare_and_remove(key, if_version, cause))
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        named("take", self.inner.take(key))
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        named("lease_load", self.inner.lease_load(key, span))
    }

    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        Box::pin(self.inner.lease_loads(keys, span))
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        let mut release = Box::pin(Arc::clone(&self.inner).release_loads(leases));
        // Sent before the caller goes on: a task might run only after `close`. The task waits for the answer.
        if release.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.spawn(release);
        }
    }

    fn epoch(&self, key: &EncodedKey) -> PartitionEpoch {
        PartitionEpoch(self.inner.epochs.epoch(KeyNames::partition(key)))
    }

    fn server_time(&self, key: &EncodedKey) -> Option<Time> {
        self.inner.time(KeyNames::partition(key))
    }

    /// The lifetime of a tombstone.
    fn removals_remembered(&self) -> Duration {
        REMOVAL_LIFE
    }
}
