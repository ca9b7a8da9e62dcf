//! A tier with a byte quota that a test sets.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use larder_core::tier::{BatchItem, BoxFuture, Call, Layer, Operation, Tier, TierReply, forward_tier};
use larder_core::{Error, ErrorKind, Result};

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
    /// Bytes that were appended to uploads since one was published, or the quota was set.
    uploading: Arc<AtomicU64>,
}

impl<T> Clone for QuotaTier<T> {
    fn clone(&self) -> Self {
        Self {
            tier: Arc::clone(&self.tier),
            bytes: Arc::clone(&self.bytes),
            uploading: Arc::clone(&self.uploading),
        }
    }
}

impl<T: Tier> QuotaTier<T> {
    /// Wraps `tier`, without a quota.
    pub fn new(tier: T) -> Self {
        Self { tier: Arc::new(tier), bytes: Arc::new(AtomicU64::new(u64::MAX)), uploading: Arc::default() }
    }

    /// Sets the quota. A write fails with [`ErrorKind::Full`] if the usage of the wrapped tier plus
    /// the written bytes exceeds `bytes`. The entries of a batch are admitted one by one, in order.
    pub fn limit(&self, bytes: u64) {
        self.bytes.store(bytes, SeqCst);
        self.uploading.store(0, SeqCst);
    }

    /// Removes the quota.
    pub fn lift(&self) {
        self.limit(u64::MAX);
    }

    fn admit(&self, operation: Operation, bytes: u64) -> Result<()> {
        let allowed = self.bytes.load(SeqCst);
        let used = self.tier.usage().bytes + self.uploading.load(SeqCst);
        if used.saturating_add(bytes) <= allowed {
            return Ok(());
        }
        let message = format!("{bytes} bytes more than {used}, with a quota of {allowed}");
        Err(Error::new(ErrorKind::Full, message).in_tier(self.tier.kind()).during(operation.name()))
    }
}

impl<T: Tier> Layer for QuotaTier<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(async move {
            if call.bytes > 0 {
                self.admit(call.operation, call.bytes)?;
            }
            let done = make().await;
            match call.operation {
                Operation::Append if done.is_ok() => drop(self.uploading.fetch_add(call.bytes, SeqCst)),
                Operation::Publish => self.uploading.store(0, SeqCst),
                _ => {}
            }
            done
        })
    }

    /// Passes on the entries that fit, in order.
    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        if items.iter().all(|item| item.bytes() == 0) {
            return make(Cow::Borrowed(items));
        }
        Box::pin(async move {
            let (mut admitted, mut passed, mut bytes) = (Vec::with_capacity(items.len()), Vec::new(), 0);
            for item in items {
                let fits = self.admit(call.operation, bytes + item.bytes());
                if fits.is_ok() {
                    bytes += item.bytes();
                    passed.push(item.clone());
                }
                admitted.push(fits);
            }
            let mut done = make(Cow::Owned(passed)).await.into_iter();
            let results = admitted.into_iter().map(|fits| {
                fits.and_then(|()| {
                    done.next().unwrap_or_else(|| {
                        Err(Error::new(ErrorKind::Io, "the inner tier has too few answers"))
                    })
                })
            });
            results.collect()
        })
    }
}

forward_tier!([T: Tier] QuotaTier<T>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HashMapTier, block_on, sample};

    #[test]
    fn part_of_a_batch_that_fits_is_stored() {
        let tier = QuotaTier::new(HashMapTier::new());
        let entry = |number| {
            let key = sample::key(number);
            let frame = sample::frame(&key, sample::payload(number, 1000));
            (key, frame)
        };
        let entries = [entry(1), entry(2), entry(3)];
        tier.limit(2 * entries[0].1.len() as u64);
        let stored: Vec<_> = block_on(tier.put_many(&entries)).iter().map(|put| put.is_ok()).collect();
        assert_eq!(stored, [true, true, false]);
        assert_eq!(tier.usage().entries, 2);
    }

    #[test]
    fn upload_above_the_quota_is_refused() {
        let tier = QuotaTier::new(HashMapTier::new());
        let (key, streaming) = (sample::key(1), tier.streaming().unwrap());
        tier.limit(1000);
        let mut upload = block_on(streaming.begin_upload(&key, 100)).unwrap();
        block_on(streaming.append(&mut upload, &[7; 600])).unwrap();
        let kind = block_on(streaming.append(&mut upload, &[7; 600])).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Full));
    }
}
