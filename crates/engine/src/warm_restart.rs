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
        let mut encode = |key: &_| stack.keys.encode(key).ok().map(|key| Box::from(key.as_bytes()));
        let keys = self.memory.hottest(warm.keys_max, &mut encode);
        warm.list.write(&keys)?;
        Ok(keys.len() as u64)
    }

    /// Reads the entries of the kept keys into memory, the hottest first, on a thread of the pool.
    pub(crate) fn warm_up(self: &Arc<Self>) {
        let Some(warm) = &self.warm_restart else { return };
        let keys = warm.list.read();
        if keys.is_empty() {
            return;
        }
        let engine = Arc::downgrade(self);
        let job = move || keys.iter().take_while(|key| Self::warm_up_key(&engine, key)).for_each(drop);
        if self.pool.spawn(job).is_err() {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), "memory starts cold: no thread is free to read its entries");
        }
    }

    /// Reads one entry into memory. Returns whether there is room for more, and the cache is open.
    fn warm_up_key(engine: &Weak<Self>, key: &[u8]) -> bool {
        let Some(engine) = engine.upgrade() else { return false };
        let Some(stack) = engine.stack.as_ref().filter(|_| !engine.is_closed()) else { return false };
        if engine.is_full() {
            return false;
        }
        // Keys of another type, after a change of the program, do not decode.
        if let Ok(decoded) = stack.keys.decode(key)
            && let Ok(Some(encoded)) = engine.encode_key(&decoded)
        {
            let hash = engine.key_locks.hash(&decoded);
            // A tier that fails has counted it. The entry is read when a caller asks for it.
            let _counted = block_on(engine.seek::<Blocking>(encoded, hash));
        }
        true
    }

    /// Returns whether memory is about full: more entries would evict hotter ones.
    fn is_full(&self) -> bool {
        let (bounds, usage) = (self.memory.bounds(), self.memory.usage());
        let nears = |used: u64, bound: Option<u64>| bound.is_some_and(|bound| used >= bound - bound / 50);
        nears(usage.entries, bounds.entries) || nears(usage.bytes, bounds.bytes)
    }
}
