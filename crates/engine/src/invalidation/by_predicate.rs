//! Invalidation of the entries that a predicate of the user picks, and removal of those that are over.

use std::any::Any;
use std::sync::{Arc, Weak};

use larder_core::entry_meta::Freshness;
use larder_core::erased::{Key, Value};
use larder_core::frame::Head;
use larder_core::key::EncodedKey;
use larder_core::{Error, ErrorKind, Result};
#[cfg(feature = "async")]
use larder_exec::runtime::Tokio;
use larder_exec::runtime::{Blocking, Runtime, block_on};

use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::promise::Promise;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Picks entries by key and value.
pub type Predicate = Box<dyn Fn(&dyn Any, &dyn Any) -> bool + Send + Sync>;

/// The most keys that a sweep remembers before it removes them.
const SWEEP_KEYS_MAX: usize = 64 << 10;

/// An `invalidate_if` in progress. It goes on if this is dropped.
#[derive(Clone, Debug)]
pub struct Invalidating(Arc<Promise<u64>>);

impl Invalidating {
    /// Waits for the end. Returns how many entries were invalidated. Blocks the thread: a task uses
    /// `finished`.
    ///
    /// # Errors
    /// The first failure of a tier; the other entries are examined all the same.
    /// [`ErrorKind::Closed`] if the cache was closed before the end, [`ErrorKind::Busy`] if no thread
    /// was free or the predicate panicked.
    pub fn wait(&self) -> Result<u64> {
        block_on(self.0.wait::<Blocking>())
    }

    /// As [`wait`](Self::wait), for a task.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn finished(&self) -> Result<u64> {
        self.0.wait::<Tokio>().await
    }

    /// Returns whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.get().is_some()
    }
}

/// The job of an `invalidate_if`. If it is dropped before its end, the waiters get an error.
struct Job {
    engine: Weak<Engine>,
    predicate: Predicate,
    promise: Arc<Promise<u64>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let message = "no thread was free for `invalidate_if`, or its predicate panicked";
        self.promise.set(Err(Error::new(ErrorKind::Busy, message)));
    }
}

impl Job {
    fn run(self, keys_in_memory: impl FnOnce() -> Vec<Key>) {
        let outcome = self.invalidate_all_matching(keys_in_memory());
        self.promise.set(outcome);
    }

    fn invalidate_all_matching(&self, in_memory: Vec<Key>) -> Result<u64> {
        let (mut count, mut outcome) = (0, Ok(()));
        for key in block_on(self.engine()?.all_keys(in_memory))? {
            // Between two entries the last handle of the cache may be dropped.
            let engine = self.engine()?;
            match block_on(engine.invalidate_matching(&key, &self.predicate)) {
                Ok(was_invalidated) => count += u64::from(was_invalidated),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| count)
    }

    fn engine(&self) -> Result<Arc<Engine>> {
        let closed = || Error::new(ErrorKind::Closed, "the cache was closed during `invalidate_if`");
        self.engine.upgrade().filter(|engine| !engine.is_ended()).ok_or_else(closed)
    }
}

impl Engine {
    /// Invalidates the entries that the predicate picks, on a thread of the pool. It examines the
    /// entries that are there when it starts, in memory and in every tier.
    pub fn invalidate_if(
        self: &Arc<Self>,
        keys_in_memory: impl FnOnce() -> Vec<Key> + Send + 'static,
        predicate: Predicate,
    ) -> Invalidating {
        let promise = Arc::new(Promise::default());
        let job = Job { engine: Arc::downgrade(self), predicate, promise: Arc::clone(&promise) };
        // A job that finds no thread is dropped, which sets its outcome.
        drop(self.pool.spawn(move || job.run(keys_in_memory)));
        Invalidating(promise)
    }

    /// Invalidates the entry of `key` if it can be served and the predicate picks it. The predicate
    /// runs without a lock: an entry that replaces the one it saw may be invalidated in its place.
    async fn invalidate_matching(self: &Arc<Self>, key: &Key, predicate: &Predicate) -> Result<bool> {
        let Some(value) = self.value_of(key).await? else { return Ok(false) };
        if !predicate(key.as_any(), value.as_any()) {
            return Ok(false);
        }
        self.invalidate::<Blocking>(key).await.map(|()| true)
    }

    /// Reads a value without recording a use.
    async fn value_of(&self, key: &Key) -> Result<Option<Value>> {
        if let Some(record) = self.glance(key) {
            return Ok(record.value);
        }
        match self.encode_key(key)? {
            Some(encoded) => Ok(self.find_fresh(&encoded).await?.and_then(|found| found.value)),
            None => Ok(None),
        }
    }

    /// Removes the entries that may not be served any more, not even as stale, from memory, disk and
    /// files. Returns how many. A tier that other processes use removes its own.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    pub(crate) async fn sweep<W: Runtime>(self: &Arc<Self>) -> Result<u64> {
        let swept = reentrancy::within(|| self.memory.sweep());
        if !self.has_tiers() || self.is_inactive() {
            return Ok(swept);
        }
        let engine = Arc::clone(self);
        let beyond = W::section(true, async move { engine.sweep_tiers().await }).await??;
        Ok(swept + beyond)
    }

    async fn sweep_tiers(self: &Arc<Self>) -> Result<u64> {
        let Some(stack) = &self.stack else { return Ok(0) };
        let mut swept = 0;
        for handle in stack.tiers.iter().filter(|handle| !handle.has_foreign_versions()) {
            loop {
                let keys = self.keys_that_are_over(handle).await?;
                let removed = self.remove_over(stack, handle, &keys).await;
                swept += removed;
                if removed == 0 || keys.len() < SWEEP_KEYS_MAX {
                    break;
                }
            }
        }
        Ok(swept)
    }

    async fn keys_that_are_over(&self, handle: &TierHandle) -> Result<Vec<EncodedKey>> {
        let mut keys = Vec::new();
        let mut visit = |bytes: &[u8]| {
            let Ok(head) = Head::parse(bytes) else { return };
            let key = EncodedKey::new(head.key);
            let is_over = matches!(self.head_freshness(handle, bytes, &key), Some((Freshness::Gone, _)));
            if is_over && keys.len() < SWEEP_KEYS_MAX {
                keys.push(key);
            }
        };
        handle.scan(&mut visit).await?;
        Ok(keys)
    }

    async fn remove_over(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        keys: &[EncodedKey],
    ) -> u64 {
        let mut removed = 0;
        for encoded in keys {
            let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { continue };
            if self.drop_gone(stack, handle, encoded, self.key_locks.hash(&key)).await {
                self.note_over(handle, encoded);
                removed += 1;
            }
        }
        removed
    }
}
