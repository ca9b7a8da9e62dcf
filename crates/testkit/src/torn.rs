//! A tier that tears frames on command.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_core::key::EncodedKey;
use larder_core::tier::{BatchItem, BoxFuture, Call, Layer, Operation, Tier, TierReply, forward_tier};
use larder_core::{Bytes, Result};
use parking_lot::Mutex;

/// Wraps a tier, and tears frames on command. The write succeeds, but reads of that key
/// return a truncated frame or one with a flipped bit, until the next write. Clones share
/// one tier.
///
/// ```
/// use larder_core::tier::Tier;
/// use larder_testkit::{HashMapTier, TornTier, block_on, sample};
///
/// let tier = TornTier::new(HashMapTier::new());
/// let key = sample::key(1);
/// let frame = sample::frame(&key, sample::payload(1, 1000));
/// tier.tear(1);
/// block_on(tier.put(&key, &frame)).unwrap();
/// let read = block_on(tier.get(&key)).unwrap().unwrap();
/// assert!(larder_core::frame::open(&read, &key).is_err());
/// ```
#[derive(Debug)]
pub struct TornTier<T> {
    tier: Arc<T>,
    wounds: Arc<Wounds>,
}

#[derive(Debug, Default)]
struct Wounds {
    /// Number of writes that are still to be torn.
    due: AtomicUsize,
    made: AtomicUsize,
    /// How the frame of a key is torn, by key digest.
    keys: Mutex<HashMap<u128, usize>>,
}

impl<T> Clone for TornTier<T> {
    fn clone(&self) -> Self {
        Self { tier: Arc::clone(&self.tier), wounds: Arc::clone(&self.wounds) }
    }
}

impl<T: Tier> TornTier<T> {
    /// Wraps `tier`, and tears nothing.
    pub fn new(tier: T) -> Self {
        Self { tier: Arc::new(tier), wounds: Arc::default() }
    }

    /// Tears the frames of the next `writes` writes.
    pub fn tear(&self, writes: usize) {
        self.wounds.due.store(writes, Ordering::SeqCst);
    }

    /// Returns the number of writes torn so far.
    pub fn torn(&self) -> usize {
        self.wounds.made.load(Ordering::SeqCst)
    }

    /// Tears the frame that an answer holds, or notes a write.
    fn seen<A: TierReply>(&self, operation: Operation, key: &EncodedKey, answer: &mut A) {
        match operation {
            Operation::Put
            | Operation::PutMany
            | Operation::Publish
            | Operation::CompareAndSet
            | Operation::CompareAndSetMany => {
                if answer.is_yes() != Some(false) {
                    self.written(key);
                }
            }
            _ => answer.change_frame(&mut |frame| self.read(key, frame)),
        }
    }

    fn written(&self, key: &EncodedKey) {
        let one_less = |due: usize| due.checked_sub(1);
        let is_torn = self.wounds.due.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        let mut keys = self.wounds.keys.lock();
        if is_torn {
            keys.insert(key.digest(), self.wounds.made.fetch_add(1, Ordering::SeqCst));
        } else {
            keys.remove(&key.digest());
        }
    }

    fn read(&self, key: &EncodedKey, frame: Bytes) -> Bytes {
        match self.wounds.keys.lock().get(&key.digest()) {
            Some(how) => torn(&frame, *how),
            None => frame,
        }
    }
}

/// Truncates a frame or flips a bit of it. `how` selects which, and where.
fn torn(frame: &Bytes, how: usize) -> Bytes {
    let at = how.wrapping_mul(0x9e37_79b9) % frame.len().max(1);
    if how.is_multiple_of(2) || frame.is_empty() {
        return frame.slice(..at);
    }
    let mut flipped = frame.to_vec();
    flipped[at] ^= 1 << (how / 2 % 8);
    flipped.into()
}

impl<T: Tier> Layer for TornTier<T> {
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
            let mut done = make().await;
            if let (Some(key), Ok(answer)) = (call.key, &mut done) {
                self.seen(call.operation, key, answer);
            }
            done
        })
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(async move {
            let mut done = make(Cow::Borrowed(items)).await;
            for (item, done) in items.iter().zip(&mut done) {
                if let Ok(answer) = done {
                    self.seen(call.operation, item.key(), answer);
                }
            }
            done
        })
    }
}

forward_tier!([T: Tier] TornTier<T>);

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::{HashMapTier, block_on, sample};

    #[test]
    fn torn_frame_is_torn_for_every_kind_of_read() {
        let tier = TornTier::new(HashMapTier::new());
        let key = sample::key(1);
        let frame = sample::frame(&key, sample::payload(1, 1000));
        tier.tear(1);
        assert!(block_on(tier.put_many(&[(key.clone(), frame.clone())]))[0].is_ok());
        let whole = frame.to_vec();
        let torn = block_on(tier.get(&key)).unwrap().unwrap();
        assert!(torn != whole && tier.torn() == 1);
        assert_eq!(
            block_on(tier.get_many(std::slice::from_ref(&key)))[0].as_ref().unwrap().as_ref(),
            Some(&torn)
        );
        let mut opened = block_on(tier.streaming().unwrap().open(&key)).unwrap().unwrap();
        let mut read = Vec::new();
        opened.medium.read_to_end(&mut read).unwrap();
        assert_eq!(read, torn);
        block_on(tier.put(&key, &frame)).unwrap();
        assert_eq!(block_on(tier.get(&key)).unwrap().unwrap(), whole, "mended by the next write");
    }
}
