//! A tier that tears frames on command.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
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

impl<T: Tier> Tier for TornTier<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { Ok(self.tier.get(key).await?.map(|frame| self.read(key, frame))) })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.tier.put(key, frame).await?;
            self.written(key);
            Ok(())
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
