//! The contract of a tier, by the calls of [`Inner`](super::Inner).

use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Result};

use super::{FRAME_BYTES_MAX, RedisTier};

/// Names tier and operation in an error.
fn named<'a, T: 'a>(
    operation: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { work.await.map_err(|error| error.in_tier(TierKind::Redis).during(operation)) })
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
            streams: false,
            stamps: false,
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

    /// One round trip. What it leaves behind is unlinked in the background.
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        named("clear", async move {
            self.inner.clear().await?;
            if let Some(io) = &*self.io.lock() {
                drop(io.handle().spawn(Arc::clone(&self.inner).sweep()));
            }
            Ok(())
        })
    }

    /// Passes over every key of the database, page by page, and reads the first
    /// 4 KiB of each entry. Remembers 16 bytes an entry.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        named("scan", self.inner.scan(visit))
    }

    /// As the last survey found it, a few seconds ago: counted where the
    /// database has up to 20,000 keys, estimated from that many beyond. Counts what all who share the tier wrote.
    fn usage(&self) -> Usage {
        if self.inner.link.is_closed() { Usage::default() } else { self.inner.counted.lock().usage }
    }

    /// Nothing is buffered here, and what the server does with it is its
    /// matter; counts the entries anew.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        named("flush", async move {
            let mut connection = self.inner.link.connection()?;
            self.inner.survey(&mut connection).await.map_err(|error| self.inner.meant(error))
        })
    }

    /// Lets go of the connection and the thread; first unlinks what it has,
    /// where it has a [lease](super::RedisOptions::lease). What is in flight fails.
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        named("close", async move {
            self.keeper.iter().for_each(tokio::task::AbortHandle::abort);
            let left = self.inner.leave().await;
            self.end();
            left
        })
    }

    /// Unlinks every key of the cache, marks and all, page by page.
    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        named("destroy", async move {
            self.keeper.iter().for_each(tokio::task::AbortHandle::abort);
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

    fn insert_if_absent<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<bool>> {
        named("insert_if_absent", self.inner.insert_if_absent(key, frame))
    }

    fn replace<'a>(
        &'a self,
        key: &'a EncodedKey,
        expected: &'a Bytes,
        frame: &'a Frame,
    ) -> BoxFuture<'a, Result<bool>> {
        named("replace", self.inner.replace(key, expected, frame))
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        named("take", self.inner.take(key))
    }

    fn healthy(&self) -> bool {
        self.inner.link.is_up()
    }
}
