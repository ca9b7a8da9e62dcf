//! Equal keys with different encodings: found where they meet, and removed.
//!
//! Memory and the gate go by `Eq` and `Hash`, tiers of bytes by the encoding. The
//! codec finds one encoding for all keys that are equal, in most types. Where it
//! cannot be sure of that, this remembers the encodings of the last keys by their
//! hash. When a key comes with another encoding than an equal one before it, a value
//! may lie under either, and nobody knows which is the newer one: both are removed.
//! From then on every change of one of these keys removes what lies under all of
//! their encodings, under the guard that they have in common.

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
/// Keys of a shard that are remembered.
const SHARD_KEYS: usize = 128;
/// Keys with more than one encoding; others are refused from then on.
const CONFLICTS_MAX: usize = 10_000;

/// The encodings of the keys that a cache was asked for.
#[derive(Default)]
pub(crate) struct Encodings {
    /// A key came whose encoding an equal one might not have.
    is_on: AtomicBool,
    has_conflicts: AtomicBool,
    was_told: AtomicBool,
    recent: [Mutex<Vec<Option<Seen>>>; SHARDS],
    conflicts: Mutex<HashMap<u64, Conflict>>,
}

/// A key as it came last.
struct Seen {
    hash: u64,
    encoded: EncodedKey,
}

/// All encodings that equal keys came with.
#[derive(Clone)]
struct Conflict {
    encodings: Vec<EncodedKey>,
    /// What lies under them was not removed yet.
    is_new: bool,
}

impl Encodings {
    /// Whether this encoding is to be compared with those of equal keys.
    fn watches(&self, encoded: &EncodedKey) -> bool {
        if !encoded.is_sure() {
            self.is_on.store(true, Ordering::Relaxed);
        }
        self.is_on.load(Ordering::Relaxed)
    }

    /// Remembers the encoding of a key; the one that a key of this hash had
    /// before, where it was another.
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

    /// Notes that equal keys have these encodings; whether that is new.
    ///
    /// # Errors
    /// Where there are too many of such keys.
    fn note(&self, hash: u64, pair: [&EncodedKey; 2]) -> Result<bool> {
        let mut conflicts = self.conflicts.lock();
        if conflicts.len() >= CONFLICTS_MAX && !conflicts.contains_key(&hash) {
            let message = "equal keys have different encodings, and too many of them were found: \
                           say what their canonical form is by `key_with`";
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

    /// The encodings of the keys with this hash, where there is more than one.
    fn of(&self, hash: u64) -> Option<Conflict> {
        if !self.has_conflicts.load(Ordering::Acquire) {
            return None;
        }
        self.conflicts.lock().get(&hash).cloned()
    }

    fn settle(&self, hash: u64) {
        if let Some(conflict) = self.conflicts.lock().get_mut(&hash) {
            conflict.is_new = false;
        }
    }
}

impl Engine {
    /// Compares the encoding of a key with that of an equal one before it.
    ///
    /// # Errors
    /// Where too many keys have more than one.
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
        let Some(former) = self.encodings.see(hash, encoded) else { return Ok(()) };
        let is_equal = stack.keys.decode(former.as_bytes()).is_ok_and(|former| key.is_key(former.as_any()));
        if is_equal && self.encodings.note(hash, [&former, encoded])? {
            self.note_conflict();
        }
        Ok(())
    }

    /// Counts equal keys with different encodings, and logs the first.
    pub(crate) fn note_conflict(&self) {
        self.counters.key_conflicts.increment();
        if !self.encodings.was_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "larder", cache = self.lifecycle.name(),
                "equal keys have different encodings: their entries beyond memory are removed. \
                 Give the canonical form of a key by `key_with`"
            );
        }
    }

    /// Removes what lies under other encodings of a key, for who holds its guard
    /// and is about to look at it or to change it; whether there was anything. What
    /// lies under its own goes too where it may be older than that.
    pub(crate) async fn drop_conflicts(&self, encoded: &EncodedKey) -> bool {
        if !self.encodings.has_conflicts.load(Ordering::Acquire) {
            return false;
        }
        let Some(stack) = &self.stack else { return false };
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return false };
        let hash = self.key_locks.hash(&key);
        let Some(mut conflict) = self.encodings.of(hash) else { return false };
        if !conflict.is_new {
            conflict.encodings.retain(|other| other != encoded);
        }
        // On the heap: rare, and part of the future of every change.
        Box::pin(self.drop_encodings(hash, conflict)).await
    }

    async fn drop_encodings(&self, hash: u64, conflict: Conflict) -> bool {
        let mut removed = false;
        for encoded in &conflict.encodings {
            for handle in self.tiers() {
                // A failure is counted by the layer, and the key distrusted by the handle.
                if let Ok(true) = handle.remove(encoded).await {
                    removed = true;
                    self.emit_refused(encoded, handle.kind());
                }
            }
        }
        self.encodings.settle(hash);
        removed
    }

    /// Before a read: removes what lies under the encodings of a key, where they
    /// were found to differ since it was changed last.
    pub(crate) async fn drop_new_conflicts(self: &Arc<Self>, hash: u64) {
        let Some(conflict) = self.encodings.of(hash).filter(|conflict| conflict.is_new) else { return };
        let turn = WriteTurn::of_upkeep(hash);
        let Ok(_guard) = self.key_locks.write(&turn).await else { return };
        Box::pin(self.drop_encodings(hash, conflict)).await;
    }

    /// Removes an entry of this node whose key is encoded in another way by now.
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
