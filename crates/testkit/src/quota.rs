//! A tier with a byte quota that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};

/// Wraps a tier and refuses writes beyond a quota, as a full file system does. Clones share
/// the tier and the quota.
///
/// ```
/// use larder_core::ErrorKind;
/// use larder_core::tier::Tier;
/// use larder_testkit::{HashMapTier, QuotaTier, block_on, sample};
///
/// let tier = QuotaTier::new(HashMapTier::new());
/// let key = sample::key(1);
/// let frame = sample::frame(&key, sample::payload(1, 1000));
/// tier.limit(500);
/// assert_eq!(block_on(tier.put(&key, &frame)).unwrap_err().kind(), ErrorKind::Full);
/// tier.lift();
/// block_on(tier.put(&key, &frame)).unwrap();
/// ```
#[derive(Debug)]
pub struct QuotaTier<T> {
    tier: Arc<T>,
    bytes: Arc<AtomicU64>,
}

impl<T> Clone for QuotaTier<T> {
    fn clone(&self) -> Self {
        Self { tier: Arc::clone(&self.tier), bytes: Arc::clone(&self.bytes) }
    }
}

impl<T: Tier> QuotaTier<T> {
    /// Wraps `tier`, without a quota.
    pub fn new(tier: T) -> Self {
        Self { tier: Arc::new(tier), bytes: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Sets the quota. A `put` fails with [`ErrorKind::Full`] if the usage of the wrapped tier
    /// plus the size of the new frame exceeds `bytes`.
    pub fn limit(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::SeqCst);
    }

    /// Removes the quota.
    pub fn lift(&self) {
        self.limit(u64::MAX);
    }

    fn admit(&self, bytes: u64) -> Result<()> {
        let allowed = self.bytes.load(Ordering::SeqCst);
        let used = self.tier.usage().bytes;
        if used.saturating_add(bytes) <= allowed {
            return Ok(());
        }
        let message = format!("{bytes} bytes more than {used}, with a quota of {allowed}");
        Err(Error::new(ErrorKind::Full, message).in_tier(self.tier.kind()).during("put"))
    }
}

impl<T: Tier> Tier for QuotaTier<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.tier.get(key)
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.admit(frame.len() as u64)?;
            self.tier.put(key, frame).await
        })
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.tier.remove(key)
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.tier.contains(key)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.clear()
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        self.tier.scan(visit)
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }
}
