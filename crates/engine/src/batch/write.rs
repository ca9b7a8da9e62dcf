//! Writing and removing many keys in one call.
//!
//! Changes for a tier that does not block go there in one round trip per part of the call: to the tier that nodes
//! share, or to the nearest other one. The guards of a part are taken without waiting: two calls that hold guards
//! and wait for each other's would deadlock. Keys whose guards are not free, or whose home is another tier, follow
//! one by one.

use std::collections::HashSet;
use std::sync::Arc;

use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::Placement;
use larder_core::{Error, Result};

use crate::batch::BatchTier;
use crate::engine::Engine;
use crate::key_lock::{TryLock, WriteGuard, WriteTurn};
use crate::write::KeyInTiers;
use crate::write::prepared_entry::{EarlyWrite, NewValue, PreparedEntry};
use crate::write::remove::{Erased, ErasedIn, Former};
use larder_exec::runtime::Runtime;

/// Maximum number of keys in one part.
pub(crate) const PART: usize = 128;
/// Maximum bytes of values in one part. A larger entry is stored alone.
pub(crate) const PART_BYTES: u64 = 16 << 20;

/// The outcome of each entry of a part, by its position.
type Outcomes = [Result<Placement>];

/// An entry to store.
struct Pending {
    /// The position of the entry in its part.
    at: usize,
    turn: WriteTurn,
    key: Key,
    prepared: PreparedEntry,
}

/// A key to remove together with others.
struct Removal {
    encoded: EncodedKey,
    name: Option<Arc<Key>>,
    former: Former,
    _guard: WriteGuard,
}

impl Engine {
    /// Stores entries. Continues after a failure. If a key occurs several times, its last value
    /// stays. Returns the outcome of each entry, in the order of the entries.
    pub(crate) async fn insert_many<W: Runtime>(
        self: &Arc<Self>,
        entries: Vec<(Key, Value)>,
        options: EntryOptions,
    ) -> Vec<Result<Placement>> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter();
        while self.takes_batches() && entries.len() > 1 && options.check().is_ok() {
            let (part, _callers): (Vec<_>, Vec<_>) = entries
                .by_ref()
                .take(PART)
                .map(|entry| {
                    let (turn, caller) = self.write_turn::<W>(self.key_locks.hash(&entry.0));
                    ((turn, entry), caller)
                })
                .unzip();
            let (engine, options, len) = (Arc::clone(self), options.clone(), part.len());
            let stored = W::section(true, async move { engine.insert_part(part, options).await }).await;
            match stored {
                Ok(stored) => outcomes.extend(stored),
                Err(error) => {
                    let error = Arc::new(error);
                    outcomes.extend((0..len).map(|_| Err(Error::again(&error))));
                }
            }
        }
        for (key, value) in entries {
            outcomes.push(self.insert::<W>(key, value, options.clone()).await);
        }
        outcomes
    }

    /// Returns whether there is a tier that takes the changes of many keys at once.
    pub(crate) fn takes_batches(&self) -> bool {
        !self.is_closed() && self.lifecycle.is_on() && self.batch_tier().is_some()
    }

    async fn insert_part(
        self: &Arc<Self>,
        part: Vec<(WriteTurn, (Key, Value))>,
        options: EntryOptions,
    ) -> Vec<Result<Placement>> {
        self.retry_due().await;
        let mut outcomes: Vec<_> = part.iter().map(|_| Ok(Placement::MEMORY_ONLY)).collect();
        // All code of the user runs before the first guard is taken.
        let mut drafts = Vec::with_capacity(part.len());
        for (at, (turn, (key, value))) in part.into_iter().enumerate() {
            match self.encode_key(&key) {
                Ok(encoded) => {
                    let prepared = self.prepare(&key, encoded, NewValue::plain(value, options.clone()));
                    drafts.push(Pending { at, turn, key, prepared });
                }
                Err(error) => {
                    self.note_dropped(&key, &error);
                    outcomes[at] = Err(error);
                }
            }
        }
        let (together, alone) = self.guards(drafts);
        self.insert_together(together, &mut outcomes).await;
        for Pending { at, turn, key, prepared } in alone {
            outcomes[at] = self.insert_prepared(&turn, key, prepared).await;
        }
        outcomes
    }

    /// Splits the entries into those to store together, with their guards, and the rest.
    fn guards(self: &Arc<Self>, drafts: Vec<Pending>) -> (Vec<(Pending, WriteGuard)>, Vec<Pending>) {
        let (mut together, mut alone, mut bytes) = (Vec::new(), Vec::new(), 0);
        let home = self.batch_tier().map(|tier| tier.handle.kind());
        // Once a key has to wait, its later entries in the call wait too, to keep their order.
        let mut waiting = HashSet::new();
        for pending in drafts {
            let size = pending.prepared.payload_for(home).filter(|size| bytes + size <= PART_BYTES);
            let free = size.filter(|_| !waiting.contains(&pending.turn.hash()));
            match free.map(|size| (size, self.key_locks.try_write(&pending.turn))) {
                Some((size, TryLock::Granted(guard))) if !self.is_closed() && self.lifecycle.is_on() => {
                    bytes += size;
                    together.push((pending, guard));
                }
                _ => {
                    waiting.insert(pending.turn.hash());
                    alone.push(pending);
                }
            }
        }
        (together, alone)
    }

    async fn insert_together(&self, together: Vec<(Pending, WriteGuard)>, outcomes: &mut Outcomes) {
        let Some(tier) = self.batch_tier().filter(|_| !together.is_empty()) else { return };
        let (mut begun, mut frames) = (Vec::new(), Vec::new());
        for (Pending { at, turn, key, prepared }, guard) in together {
            let hash = turn.hash();
            let prepared = prepared.written(self.invalidations.stamp());
            match self.begin_early(tier, &key, &prepared).await {
                Some((early, frame)) => {
                    frames.push(frame);
                    begun.push((at, (hash, key), prepared.begun(early), guard));
                }
                None => outcomes[at] = self.store_with_seq(hash, key, prepared).await,
            }
        }
        let stored = tier.handle.put_many(&frames).await;
        for ((at, (hash, key), prepared, _guard), stored) in begun.into_iter().zip(stored) {
            let prepared = if stored.is_ok() { prepared.arrived() } else { prepared };
            outcomes[at] = self.store_with_seq(hash, key, prepared).await;
        }
    }

    /// Does everything that must precede writing an entry of a part: clears its other homes and
    /// takes its tag.
    pub(crate) async fn begin_early(
        &self,
        BatchTier { stack, handle }: BatchTier<'_>,
        key: &Key,
        prepared: &PreparedEntry,
    ) -> Option<(EarlyWrite, (EncodedKey, Frame))> {
        let encoded = prepared.encoded.clone()?;
        self.drop_conflicts(&encoded).await;
        let base = self.base_of(stack, &encoded, self.discard_copy(key).flatten());
        self.clear_homes(KeyInTiers { stack, key: &encoded }, prepared.precondition, handle.kind()).await;
        let frame = prepared.frame(stack, &encoded)?;
        let copy_tag = self.coherence.copy_tag();
        self.coherence.note_copy(&encoded);
        Some((EarlyWrite::new(copy_tag, base, &frame), (encoded, frame)))
    }

    /// Removes keys from every tier. Returns how many of them had an entry.
    ///
    /// # Errors
    /// The first failure. The other keys are removed all the same.
    pub(crate) async fn remove_many<W: Runtime>(self: &Arc<Self>, keys: &[&dyn AnyLookup]) -> Result<u64> {
        let mut removed = Ok(0);
        let mut keys = keys;
        while self.takes_batches() && keys.len() > 1 {
            let (part, rest) = keys.split_at(keys.len().min(PART));
            keys = rest;
            removed = sum(removed, self.remove_part::<W>(part).await);
        }
        for key in keys {
            removed = sum(removed, self.remove::<W>(*key).await.map(u64::from));
        }
        removed
    }

    async fn remove_part<W: Runtime>(self: &Arc<Self>, part: &[&dyn AnyLookup]) -> Result<u64> {
        let named: Vec<_> = part
            .iter()
            .map(|key| (self.encode_key(*key), self.key_locks.hash(*key), self.name_of(*key)))
            .collect();
        let (turns, _callers): (Vec<_>, Vec<_>) =
            named.iter().map(|(_, hash, _)| self.write_turn::<W>(*hash)).unzip();
        let engine = Arc::clone(self);
        let section = async move {
            let (mut together, mut alone, mut outcome) = (Vec::new(), Vec::new(), Ok(0));
            for ((encoded, hash, name), turn) in named.into_iter().zip(turns) {
                match (encoded, engine.key_locks.try_write(&turn)) {
                    (Ok(Some(encoded)), TryLock::Granted(guard)) => {
                        engine.backoffs.end(hash);
                        let former = engine.former(&encoded);
                        together.push(Removal { encoded, name, former, _guard: guard });
                    }
                    (Ok(Some(encoded)), _) => alone.push((encoded, turn, name)),
                    (Ok(None), _) => {}
                    (Err(error), _) => outcome = Err(error),
                }
            }
            outcome = sum(outcome, engine.remove_together(together).await);
            for (encoded, turn, name) in alone {
                outcome = sum(outcome, engine.remove_encoded(&encoded, &turn, name).await.map(u64::from));
            }
            outcome
        };
        W::section(true, section).await?
    }

    async fn remove_together(&self, together: Vec<Removal>) -> Result<u64> {
        let Some(BatchTier { handle, .. }) = self.batch_tier().filter(|_| !together.is_empty()) else {
            return Ok(0);
        };
        let keys: Vec<EncodedKey> = together.iter().map(|removal| removal.encoded.clone()).collect();
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            // Of a tier that nodes share, each look would be a round trip more.
            found.push(if handle.is_among_nodes() { Erased::Live } else { self.erasable(handle, key).await });
        }
        let removed = handle.remove_many(&keys).await;
        let mut outcome = Ok(0);
        for ((removal, found), removed) in together.into_iter().zip(found).zip(removed) {
            let Removal { encoded, name, former, _guard } = removal;
            let (erased, failure) =
                self.erase_beside(&encoded, former, ErasedIn { handle, found, removed }).await;
            let removed = self.count_removal(name, erased);
            outcome = sum(outcome, failure.map_or(Ok(u64::from(removed)), Err));
        }
        outcome
    }
}

/// Adds two results. Returns the first error.
fn sum(one: Result<u64, Error>, other: Result<u64, Error>) -> Result<u64> {
    one.and_then(|one| other.map(|other| one + other))
}
