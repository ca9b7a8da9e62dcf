//! Warm restart: the hottest entries of memory outlive the process, and are read back when the cache is opened.
//!
//! The list of them holds keys alone. Their values are read again from the tiers that are their homes, by the
//! ordinary path of a read: what was removed, replaced or invalidated meanwhile is not served.
//! An entry at home in memory is moved to a tier of the directory first. From then on that tier is its home, and
//! every later change of the entry reaches it, as it does for any other.

use std::sync::{Arc, Weak};

use larder_core::Result;
use larder_core::entry_meta::EntryMeta;
use larder_core::erased::{Key, Value};
use larder_core::frame::Frame;
use larder_core::hot_keys::HotKeyList;
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::place::Persistence;
use larder_core::tier::TierKind;
use larder_exec::runtime::{Blocking, Runtime, block_on};

use crate::engine::Engine;
use crate::key_lock::WriteTurn;
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{FrameLabel, TierStack};

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
    /// Writes the hottest keys of memory down, and moves their entries out of memory. Returns their number; zero
    /// without a list.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub(crate) async fn snapshot<W: Runtime>(self: &Arc<Self>) -> Result<u64> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let Some((warm, stack)) = engine.warm() else { return Ok(0) };
            let keys = engine.hottest(warm, stack);
            for (key, encoded) in decoded(stack, &keys) {
                let guard =
                    engine.key_locks.write(&WriteTurn::of_upkeep(engine.key_locks.hash(&key))).await?;
                engine.check_open()?;
                if !engine.move_out_of_memory(stack, key, &encoded).await {
                    guard.found_nothing();
                }
            }
            warm.list.write(&keys).map(|()| keys.len() as u64)
        })
        .await?
    }

    /// As [`snapshot`](Self::snapshot), for a cache that is being closed. The caller has closed the key locks.
    pub(crate) async fn leave_hottest(&self) -> Result<()> {
        let Some((warm, stack)) = self.warm() else { return Ok(()) };
        let keys = self.hottest(warm, stack);
        for (key, encoded) in decoded(stack, &keys) {
            self.move_out_of_memory(stack, key, &encoded).await;
        }
        warm.list.write(&keys)
    }

    fn warm(&self) -> Option<(&WarmRestart, &TierStack)> {
        self.warm_restart.as_ref().zip(self.stack.as_ref())
    }

    /// The encoded keys of the hottest entries.
    fn hottest(&self, warm: &WarmRestart, stack: &TierStack) -> Vec<Box<[u8]>> {
        let encode = |key: &_| stack.keys.encode(key).ok().map(|key| Box::from(key.as_bytes()));
        self.memory.hottest_keys(warm.keys_max, encode)
    }

    /// Moves an entry that is at home in memory to a tier of the directory. It keeps its deadlines, its tags and its
    /// sequence number. Returns whether it was moved. The caller holds the guard of the key, or has closed the key
    /// locks.
    ///
    /// Not with nodes: entries that they share are in the shared tier, and one that is not is yet to be
    /// reconciled.
    async fn move_out_of_memory(&self, stack: &TierStack, key: Key, encoded: &EncodedKey) -> bool {
        let is_at_home = |record: &Record<Value>| record.home == TierKind::Memory;
        let found = self.glance(&key).filter(is_at_home).filter(|_| stack.among_nodes().is_none());
        let Some(mut record) = found else { return false };
        let terms = record.terms.as_ref().map_or(EntryMeta::PLAIN, |terms| terms.current());
        let Some(frame) = self.frame_to_move(stack, encoded, &record, &terms) else { return false };
        for handle in stack.tiers.iter().filter(|handle| is_of_the_directory(handle)) {
            // A tier that fails has counted it.
            if handle.put(encoded, &frame).await.is_ok() {
                record.home = handle.kind();
                record.terms = self.expiry.live(&handle.cap(terms, record.created));
                self.keep(key, record);
                self.note_moved(encoded, TierKind::Memory, handle.kind());
                return true;
            }
        }
        false
    }

    /// The frame of an entry in memory. `None` if it is to end with the process, or cannot be encoded.
    fn frame_to_move(
        &self,
        stack: &TierStack,
        key: &EncodedKey,
        record: &Record<Value>,
        terms: &EntryMeta,
    ) -> Option<Frame> {
        let value = record.value.as_ref();
        let bytes = value.map_or(Ok(0), |value| stack.values.measure(value)).ok()?;
        let facts = self.facts(bytes, None, terms);
        let is_to_end = matches!(facts.persistence, Persistence::Ephemeral | Persistence::Session);
        if is_to_end || facts.home == Some(TierKind::Memory) {
            return None;
        }
        let label = FrameLabel { facts: &facts, terms, stamp: record.stamp, created: record.created };
        Some(stack.frame(key, stack.payload(value, facts.kind).ok()?, &label))
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

/// Whether a tier is one of the directory that this process alone writes to, and takes entries now.
fn is_of_the_directory(handle: &TierHandle) -> bool {
    let facts = handle.facts();
    matches!(handle.kind(), TierKind::Disk | TierKind::File)
        && !handle.is_shared()
        && facts.capability.stores
        && facts.healthy
}

/// The keys that decode, with their encodings.
fn decoded(stack: &TierStack, keys: &[Box<[u8]>]) -> impl Iterator<Item = (Key, EncodedKey)> {
    keys.iter().filter_map(|key| Some((stack.keys.decode(key).ok()?, EncodedKey::new(&**key))))
}
