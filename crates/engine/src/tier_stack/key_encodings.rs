//! Detects equal keys with different encodings, and removes their entries.
//!
//! Memory and the key locks compare keys by `Eq` and `Hash`; byte tiers compare
//! encodings. For most types the codec gives all equal keys one encoding. Where that is
//! not certain, this module remembers the encodings of recent keys by hash. If a key
//! comes with another encoding than an equal key before it, each encoding may have an
//! entry, and it is unknown which is newer. Both entries are removed. From then on, every
//! change of such a key removes the entries of all its encodings, under the write guard
//! that equal keys share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_core::erased::{AnyLookup, Key};
use larder_core::key::EncodedKey;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::key_lock::WriteTurn;
use crate::tier_stack::TierStack;

const SHARDS: usize = 16;
/// Keys that one shard remembers.
const SHARD_KEYS: usize = 128;
/// Limit on keys with more than one encoding; further ones are refused.
const CONFLICTS_MAX: usize = 10_000;

/// The encodings of the keys that a cache was asked for.
#[derive(Default)]
pub(crate) struct Encodings {
    /// Whether a key came whose encoding an equal key might not have.
    is_on: AtomicBool,
    has_conflicts: AtomicBool,
    was_told: AtomicBool,
    recent: [Mutex<Vec<Option<Seen>>>; SHARDS],
    conflicts: Mutex<HashMap<u64, Conflict>>,
}

/// The last key in its place, with its encoding.
struct Seen {
    hash: u64,
    encoded: EncodedKey,
}

/// All encodings that equal keys came with.
#[derive(Clone)]
struct Conflict {
    encodings: Vec<EncodedKey>,
    /// Whether their entries were not removed yet.
    is_new: bool,
}

impl Encodings {
    /// Whether this encoding must be compared with those of equal keys.
    fn watches(&self, encoded: &EncodedKey) -> bool {
        if !encoded.is_sure() {
            self.is_on.store(true, Ordering::Relaxed);
        }
        self.is_on.load(Ordering::Relaxed)
    }

    /// Remembers the encoding of a key. Returns the former encoding of a key with this
    /// hash, if it differs.
    fn see(&self, hash: u64, encoded: &EncodedKey) -> Option<EncodedKey> {
        let mut shard = self.recent[hash as usize % SHARDS].lock();
        if shard.is_empty() {
            shard.resize_with(SHARD_KEYS, || None);
        }
        let seen = &mut shard[(hash >> 32) as usize % SHARD_KEYS];
        match seen {
            Some(seen) if seen.hash == hash && seen.encoded == *encoded => return None,
            _ => {}
        }
        let former = seen.replace(Seen { hash, encoded: encoded.clone() });
        former.filter(|former| former.hash == hash).map(|former| former.encoded)
    }

    /// Records that equal keys have these encodings. Returns whether an entry may have to
    /// be removed.
    ///
    /// # Errors
    /// `ErrorKind::Codec` if there are too many such keys.
    fn note(&self, hash: u64, pair: [&EncodedKey; 2]) -> Result<bool> {
        let mut conflicts = self.conflicts.lock();
        if conflicts.len() >= CONFLICTS_MAX && !conflicts.contains_key(&hash) {
            let message = "equal keys have different encodings, and there are too many of them: \
                           give their canonical form with `key_with`";
            return Err(Error::new(ErrorKind::Codec, message));
        }
        let conflict =
            conflicts.entry(hash).or_insert_with(|| Conflict { encodings: Vec::new(), is_new: false });
        for encoded in pair {
            if !conflict.encodings.contains(encoded) {
                conflict.encodings.push(encoded.clone());
                conflict.is_new = true;
            }
        }
        self.has_conflicts.store(true, Ordering::Release);
        Ok(conflict.is_new)
    }

    /// Returns the encodings of the keys with this hash, if there is more than one.
    fn of(&self, hash: u64) -> Option<Conflict> {
        if !self.has_conflicts.load(Ordering::Acquire) {
            return None;
        }
        self.conflicts.lock().get(&hash).cloned()
    }

    /// Returns an encoding of a key with this hash that has several, unless `encoded` is one of them.
    fn conflicting(&self, hash: u64, encoded: &EncodedKey) -> Option<EncodedKey> {
        if !self.has_conflicts.load(Ordering::Acquire) {
            return None;
        }
        let conflicts = self.conflicts.lock();
        let known = &conflicts.get(&hash)?.encodings;
        if known.contains(encoded) { None } else { known.first().cloned() }
    }

    /// Notes that the entries of these encodings were removed. A further one may have come meanwhile.
    fn settle(&self, hash: u64, removed: &[EncodedKey]) {
        if let Some(conflict) = self.conflicts.lock().get_mut(&hash)
            && conflict.encodings.len() == removed.len()
        {
            conflict.is_new = false;
        }
    }
}

impl Engine {
    /// Returns whether equal keys came with different encodings.
    pub(crate) fn has_key_conflicts(&self) -> bool {
        self.encodings.has_conflicts.load(Ordering::Acquire)
    }

    /// Compares the encoding of a key with that of an equal key before it.
    ///
    /// # Errors
    /// `ErrorKind::Codec` if too many keys have more than one encoding.
    pub(crate) fn watch_encoding(
        &self,
        stack: &TierStack,
        key: &dyn AnyLookup,
        encoded: &EncodedKey,
    ) -> Result<()> {
        if !self.encodings.watches(encoded) {
            return Ok(());
        }
        let hash = self.key_locks.hash(key);
        // The place of the key in the memory of recent keys may have been taken by another key.
        let former = self.encodings.see(hash, encoded).or_else(|| self.encodings.conflicting(hash, encoded));
        let Some(former) = former else { return Ok(()) };
        let is_equal = stack.keys.decode(former.as_bytes()).is_ok_and(|former| key.is_key(former.as_any()));
        if is_equal && self.encodings.note(hash, [&former, encoded])? {
            self.note_conflict();
        }
        Ok(())
    }

    /// Counts a pair of equal keys with different encodings, and logs the first.
    pub(crate) fn note_conflict(&self) {
        self.counters.key_conflicts.increment();
        if !self.encodings.was_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "larder", cache = self.lifecycle.name(),
                "equal keys have different encodings: their entries beyond memory are removed; \
                 give the canonical form of the keys with `key_with`"
            );
        }
    }

    /// Removes the entries under the other encodings of a key, before the caller reads or
    /// changes it. Returns whether there were any. While the conflict is new it also
    /// removes the entry under the key's own encoding, which may be the older one. The
    /// caller holds the write guard.
    pub(crate) async fn drop_conflicts(&self, encoded: &EncodedKey) -> bool {
        if !self.has_key_conflicts() {
            return false;
        }
        let Some(stack) = &self.stack else { return false };
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return false };
        let hash = self.key_locks.hash(&key);
        let Some(mut conflict) = self.encodings.of(hash) else { return false };
        if !conflict.is_new {
            conflict.encodings.retain(|other| other != encoded);
        }
        // Boxed: rare, and part of the future of every change.
        Box::pin(self.drop_encodings(hash, conflict)).await
    }

    async fn drop_encodings(&self, hash: u64, conflict: Conflict) -> bool {
        let mut removed = false;
        for encoded in &conflict.encodings {
            for handle in self.tiers() {
                // The layer counts a failure, and the handle quarantines the key.
                if let Ok(true) = handle.remove(encoded).await {
                    removed = true;
                    self.emit_refused(encoded, handle.kind());
                }
            }
        }
        if conflict.is_new {
            self.encodings.settle(hash, &conflict.encodings);
        }
        removed
    }

    /// Removes the entries under all encodings of a key before a read, if they were found
    /// to differ and no change removed them yet.
    pub(crate) async fn drop_new_conflicts(self: &Arc<Self>, hash: u64) {
        let Some(conflict) = self.encodings.of(hash).filter(|conflict| conflict.is_new) else { return };
        let turn = WriteTurn::of_upkeep(hash);
        let Ok(_guard) = self.key_locks.write(&turn).await else { return };
        Box::pin(self.drop_encodings(hash, conflict)).await;
    }

    /// Removes a local entry whose key has another encoding by now.
    pub(crate) async fn drop_outdated_encoding(self: &Arc<Self>, key: &Key, encoded: &EncodedKey) {
        self.note_conflict();
        let turn = WriteTurn::of_upkeep(self.key_locks.hash(key));
        let Ok(_guard) = self.key_locks.write(&turn).await else { return };
        for handle in self.tiers().iter().filter(|handle| !handle.is_among_nodes()) {
            if let Ok(true) = handle.remove(encoded).await {
                self.emit_refused(encoded, handle.kind());
            }
        }
    }
}
