//! Warm restart: the hottest keys of memory are written down, and read back when the cache is opened.
//!
//! Only keys are kept. Their values are read again from the tiers that are their homes, by the
//! ordinary path of a read: what was removed, replaced or invalidated meanwhile is not served.
//! Entries at home in memory end with the cache.

use std::sync::{Arc, Weak};

use larder_core::Result;
use larder_core::hot_keys::HotKeyList;
use larder_exec::runtime::{Blocking, Runtime, block_on};

use crate::engine::Engine;

/// Where the hottest keys are kept, and how many.
pub struct WarmRestart {
    /// The list.
    pub list: Box<dyn HotKeyList>,
    /// The most keys to keep.
    pub keys_max: usize,
}

/// How many entries are read before memory is asked for its usage again, which takes the locks of all
/// its shards.
const READS_AT_ONCE: usize = 64;

impl Engine {
    /// Writes the hottest keys of memory down. Returns their number; zero without a list.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub(crate) async fn snapshot<W: Runtime>(self: &Arc<Self>) -> Result<u64> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move { engine.write_hot_keys() }).await?
    }

    pub(crate) fn write_hot_keys(&self) -> Result<u64> {
        let (Some(warm), Some(stack)) = (&self.warm_restart, &self.stack) else { return Ok(0) };
        let encode = |key: &_| stack.keys.encode(key).ok().map(|key| Box::from(key.as_bytes()));
        let keys: Vec<Box<[u8]>> = self.memory.hottest_keys(warm.keys_max, encode);
        warm.list.write(&keys)?;
        Ok(keys.len() as u64)
    }

    /// Reads the entries of the kept keys into memory, the hottest first, on a thread of the pool.
    pub(crate) fn warm_up(self: &Arc<Self>) {
        if self.warm_restart.is_none() {
            return;
        }
        let engine = Arc::downgrade(self);
        let job = move || {
            let list = |engine: Arc<Self>| engine.warm_restart.as_ref().map(|warm| warm.list.read());
            let keys = engine.upgrade().and_then(list).unwrap_or_default();
            let parts = keys.chunks(READS_AT_ONCE);
            parts.take_while(|keys| Self::warm_up_some(&engine, keys)).for_each(drop);
        };
        if self.pool.spawn(job).is_err() {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), "memory starts cold: no thread is free to read its entries");
        }
    }

    /// Reads entries into memory. Returns whether there is room for more, and the cache is open.
    fn warm_up_some(engine: &Weak<Self>, keys: &[Box<[u8]>]) -> bool {
        let is_open = |engine: &Arc<Self>| !engine.is_inactive();
        if engine.upgrade().filter(is_open).is_none_or(|engine| engine.is_full()) {
            return false;
        }
        // Between two entries the last handle of the cache may be dropped.
        for key in keys {
            let Some(engine) = engine.upgrade().filter(is_open) else { return false };
            engine.warm_up_key(key);
        }
        true
    }

    fn warm_up_key(self: &Arc<Self>, key: &[u8]) {
        let Some(stack) = &self.stack else { return };
        // Keys of another type, after a change of the program, do not decode.
        if let Ok(decoded) = stack.keys.decode(key)
            && let Ok(Some(encoded)) = self.encode_key(&decoded)
        {
            let hash = self.key_locks.hash(&decoded);
            // A tier that fails has counted it. The entry is read when a caller asks for it.
            let _counted = block_on(self.seek::<Blocking>(encoded, hash));
        }
    }

    /// Returns whether memory is about full: more entries would evict hotter ones.
    fn is_full(&self) -> bool {
        let (bounds, usage) = (self.memory.bounds(), self.memory.usage());
        let nears = |used: u64, bound: Option<u64>| bound.is_some_and(|bound| used >= bound - bound / 50);
        nears(usage.entries, bounds.entries) || nears(usage.bytes, bounds.bytes)
    }
}
