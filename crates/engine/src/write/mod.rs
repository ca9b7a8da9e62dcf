//! Writing: place the entry, clear its other homes, store it, copy it into memory.
//!
//! All code of the user (measuring, encoding, weighing) runs first, into a [`PreparedEntry`]. Then
//! the guard of the key is taken, and the prepared entry is stored.
//!
//! The order of the steps keeps a reader from finding an older copy after a newer one: first the
//! other homes are cleared, then the home is written, then memory. Each tier decides what happens
//! to data that it still buffers when the process is killed.

pub(crate) mod atomic;
mod on_thread;
pub(crate) mod precondition;
pub(crate) mod prepared_entry;
mod quiet;
pub(crate) mod remove;
mod stored;
pub(crate) mod stream;
mod touch;

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions, Freshness};
use larder_core::erased::{Key, Value};
use larder_core::events::{Event, Writer};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::{Facts, Placement, TierFacts, TierList};
use larder_core::tier::{BoxFuture, EntryVersion, FailedWrites, LastRemoval, TierKind, VersionedFrame};
use larder_core::{Error, ErrorKind, Result};

use crate::coherence::identity;
use crate::coherence::local_fallback::{LocalWrite, Stay};
use crate::engine::Engine;
use crate::invalidation::log::EntryAge;
use crate::key_lock::WriteTurn;
use crate::key_lock::reentrancy;
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{FrameLabel, TierStack};
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::{EarlyWrite, NewValue, Plan, PreparedEntry};
use crate::write::quiet::QuietWrite;
use crate::write::stored::{Stored, StoredEntry};
use larder_exec::runtime::Runtime;

/// Maximum attempts at storing an entry that other nodes keep invalidating.
const RESTAMPS_MAX: u32 = 100;

/// An encoded key, and the tiers that may have its entry.
#[derive(Clone, Copy)]
pub(crate) struct KeyInTiers<'a> {
    pub(crate) stack: &'a TierStack,
    pub(crate) key: &'a EncodedKey,
}

/// How a frame is written to the home of its entry.
struct HomeWrite<'a> {
    facts: &'a Facts,
    placement: Placement,
    stamp: u64,
    precondition: Precondition,
    /// Why the home has refused the entry already.
    failure: Option<Error>,
}

/// The metadata and sequence number that an entry is stored with, and what storing it requires.
struct WriteStamp<'a> {
    precondition: Precondition,
    terms: &'a EntryMeta,
    stamp: u64,
    is_written: bool,
    created: Time,
    early: Option<EarlyWrite>,
}

impl Engine {
    /// Stores `value` under `key`. Returns its placement.
    ///
    /// Once begun it runs to completion. Supersedes the loads and promotions of the key that are in
    /// progress.
    ///
    /// # Errors
    /// If no tier accepted the entry, or the options are out of range. The former entry is then
    /// removed, so that it is not served in place of the new value. If the key cannot be encoded or
    /// the cache is closed, nothing has changed.
    pub(crate) async fn insert<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        value: Value,
        options: EntryOptions,
    ) -> Result<Placement> {
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(&key));
        self.insert_in::<W>(turn, key, value, options).await
    }

    /// As [`insert`](Self::insert), for a write that already has a turn.
    pub(crate) async fn insert_in<W: Runtime>(
        self: &Arc<Self>,
        turn: WriteTurn,
        key: Key,
        value: Value,
        options: EntryOptions,
    ) -> Result<Placement> {
        let encoded = self
            .check_open()
            .and_then(|()| self.encode_key(&key))
            .inspect_err(|error| self.note_dropped(&key, error))?;
        if let Err(error) = options.check() {
            return Err(self.refuse::<W>(&key, error).await);
        }
        if self.is_quiet() && self.is_in_place(&value) {
            let prepared = Box::new(self.prepare(&key, encoded, NewValue::plain(value, options)));
            return self.insert_quiet::<W>(QuietWrite { turn, key, prepared }).await;
        }
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move {
            engine.retry_due().await;
            engine.leave_if_large(&value).await;
            let prepared = engine.prepare(&key, encoded, NewValue::plain(value, options));
            engine.insert_prepared(&turn, key, prepared).await
        })
        .await?
    }

    /// Rejects a write that cannot be stored as requested. Removes the former entry, since the
    /// caller meant to replace it.
    pub(crate) async fn refuse<W: Runtime>(self: &Arc<Self>, key: &Key, error: Error) -> Error {
        self.note_dropped(key, &error);
        // A tier that could not remove the entry no longer serves it.
        let _counted = Box::pin(self.remove::<W>(key)).await;
        error
    }

    /// Takes the guard and stores a caller's write.
    pub(crate) async fn insert_prepared(
        self: &Arc<Self>,
        turn: &WriteTurn,
        key: Key,
        prepared: PreparedEntry,
    ) -> Result<Placement> {
        let guard = self.key_locks.write(turn).await;
        // Closed during the wait: nothing is stored after `close`.
        let _guard =
            guard.and_then(|guard| self.check_not_closed().map(|()| guard)).inspect_err(|error| {
                // A write that a later one has overtaken was overwritten, not dropped.
                if !self.key_locks.has_passed(turn) {
                    self.note_dropped(&key, error);
                }
            })?;
        if !self.lifecycle.is_on() {
            let (encoded, precondition) = (prepared.encoded.as_ref(), prepared.precondition);
            let error = self.drop_switched_off(&key, encoded, precondition).await;
            reentrancy::within(|| drop(prepared));
            return Err(error);
        }
        self.store_written(turn.hash(), key, prepared).await
    }

    /// Drops a write because the cache is switched off. Removes the former entry, so that no
    /// outdated entry is there when the cache is switched on again.
    ///
    /// On the heap: this is rare, and would be part of the future of every write.
    pub(crate) fn drop_switched_off<'a>(
        &'a self,
        key: &'a Key,
        encoded: Option<&'a EncodedKey>,
        precondition: Precondition,
    ) -> BoxFuture<'a, Error> {
        Box::pin(async move {
            let error = Error::new(ErrorKind::Unavailable, "the cache is switched off");
            self.note_dropped(key, &error);
            self.discard(key);
            if let (Some(stack), Some(encoded)) = (&self.stack, encoded) {
                forget(stack, encoded, precondition).await;
            }
            error
        })
    }

    /// Stores a caller's write. The caller holds the guard.
    pub(crate) fn store_written(
        &self,
        hash: u64,
        key: Key,
        prepared: PreparedEntry,
    ) -> impl Future<Output = Result<Placement>> + Send {
        // An invalidation that came while this waited for the guard does not apply to the entry.
        self.store_with_seq(hash, key, prepared.written(self.invalidations.stamp()))
    }

    /// As [`store_written`](Self::store_written), with the sequence number that the prepared entry
    /// has.
    pub(crate) async fn store_with_seq(
        &self,
        hash: u64,
        key: Key,
        prepared: PreparedEntry,
    ) -> Result<Placement> {
        let stored = self.store(key, prepared, Writer::Caller).await;
        self.end_write(hash, stored)
    }

    /// Counts a caller's write, and returns its placement.
    fn end_write(&self, hash: u64, stored: Result<Option<Placement>>) -> Result<Placement> {
        self.backoffs.end(hash);
        if matches!(stored, Ok(Some(_))) {
            self.counters.insertions.increment();
        }
        // Without a precondition, no change by another node supersedes the write.
        stored.map(|placement| placement.unwrap_or(Placement::MEMORY_ONLY))
    }

    /// Stores an entry. The caller holds the guard. `None` if the precondition of the key failed,
    /// because another node changed the entry: nothing is stored then.
    pub(crate) async fn store(
        &self,
        key: Key,
        prepared: PreparedEntry,
        by: Writer,
    ) -> Result<Option<Placement>> {
        let name = self.events.name(&key);
        self.release_former_if_expired(&key);
        let PreparedEntry {
            encoded,
            precondition,
            value,
            terms,
            stamp,
            is_written,
            created,
            weight,
            plan,
            early,
            load_cost,
        } = prepared;
        // Take the tag before the write: a notice that arrives from here on applies to the copy.
        let copy_tag = early.as_ref().map_or_else(|| self.coherence.copy_tag(), |early| early.copy_tag);
        let stored = match (&self.stack, encoded) {
            (Some(stack), Some(encoded)) => {
                let stamping = WriteStamp { precondition, terms: &terms, stamp, is_written, created, early };
                self.replace_beyond(KeyInTiers { stack, key: &encoded }, &key, plan, stamping).await
            }
            _ => Ok(Stored::at(Placement::MEMORY_ONLY, stamp)),
        };
        let entry = StoredEntry { name, key, value, terms, created, weight, load_cost, copy_tag };
        self.end_store(entry, by, stored)
    }

    /// Removes the former copy, and stores the entry in the tiers beyond memory.
    async fn replace_beyond(
        &self,
        at: KeyInTiers<'_>,
        key: &Key,
        plan: Result<Option<Plan>>,
        stamping: WriteStamp<'_>,
    ) -> Result<Stored> {
        let KeyInTiers { stack, key: encoded } = at;
        self.coherence.note_copy(encoded);
        self.drop_conflicts(encoded).await;
        // Remove the old copy first. A reader that finds the new value in a tier must not find the
        // old one in memory next.
        let former = self.discard_copy(key).flatten();
        let base = match &stamping.early {
            Some(early) => early.base,
            None => self.base_of(stack, encoded, former),
        };
        // On the heap: this future is part of a load's future, which a recursive function that
        // caches its results has on the stack at every level.
        let stored = Box::pin(self.store_beyond(at, plan, stamping)).await;
        self.note_base(stack, encoded, base);
        stored
    }

    /// Writes an entry to the byte tiers. Returns where it was stored.
    async fn store_beyond(
        &self,
        at: KeyInTiers<'_>,
        plan: Result<Option<Plan>>,
        stamping: WriteStamp<'_>,
    ) -> Result<Stored> {
        let precondition = stamping.precondition;
        let settled = match plan {
            Ok(Some(plan)) => {
                if stamping.early.is_none() {
                    self.clear_homes(at, precondition, plan.placement.home).await;
                }
                self.store_current(at, plan, stamping).await
            }
            Ok(None) => Ok(Stored::at(Placement::MEMORY_ONLY, stamping.stamp)),
            Err(error) => Err(error),
        };
        if settled.is_err() {
            Box::pin(forget(at.stack, at.key, precondition)).await;
        }
        settled
    }

    /// Writes the frame. If another node invalidated the entry during the write, writes it again
    /// with a newer sequence number: only later invalidations apply to a caller's write. It is not
    /// written again over a change that another node made since, a `take` say.
    async fn store_current(
        &self,
        at: KeyInTiers<'_>,
        Plan { facts, placement, payload }: Plan,
        stamping: WriteStamp<'_>,
    ) -> Result<Stored> {
        let (KeyInTiers { stack, key }, facts) = (at, &facts);
        let WriteStamp { mut precondition, terms, mut stamp, is_written, created, early } = stamping;
        let (mut early, mut failure) = match early {
            Some(early) if early.has_arrived => (Some(early), None),
            early => (None, early.and_then(|early| early.failure)),
        };
        let mut former = None;
        for _ in 0..RESTAMPS_MAX {
            let stored = match early.take() {
                Some(EarlyWrite { identity, .. }) => Stored { identity, ..Stored::at(placement, stamp) },
                None => {
                    let label = FrameLabel { facts, terms, stamp, created };
                    let frame = payload.clone().map(|payload| stack.frame(key, payload, &label));
                    let failure = failure.take();
                    let write = HomeWrite { facts, placement, stamp, precondition, failure };
                    self.store_at_home(at, frame.as_ref(), write).await?
                }
            };
            let Some(placement) = stored.placement else { return Ok(former.unwrap_or(stored)) };
            if !is_written || !self.is_passed(stack, placement.home, EntryAge::new(stamp, terms)).await {
                return Ok(stored);
            }
            let there = version_to_replace(stack, key, stored.identity).await?;
            // The caller's write was done, and changed since: memory gets no copy of it.
            let overtaken =
                Stored { placement: Some(Placement { copy_in_memory: false, ..placement }), ..stored };
            let Some(version) = there else { return Ok(overtaken) };
            (precondition, former) = (Precondition::Version(version), Some(overtaken));
            stamp = self.invalidations.stamp();
        }
        Err(Error::new(ErrorKind::Busy, "other nodes invalidated the entry during each attempt"))
    }

    /// Returns whether an invalidation by another node already applies to the stored entry.
    async fn is_passed(&self, stack: &TierStack, home: TierKind, entry: EntryAge<'_>) -> bool {
        let shared = stack.among_nodes().filter(|handle| home == handle.kind());
        let Some(shared) = shared else { return false };
        // The tier announced earlier invalidations before it confirmed the write.
        shared.ensure_current(true).await.is_ok()
            && self.invalidations.freshness(entry, self.timeline.now()) != Freshness::Fresh
    }

    /// Removes the entry from every tier except `home`. A removal that fails is counted, and that
    /// tier's entry is no longer trusted.
    pub(crate) async fn clear_homes(
        &self,
        KeyInTiers { stack, key }: KeyInTiers<'_>,
        precondition: Precondition,
        home: TierKind,
    ) {
        for handle in cleared_by(stack, precondition).filter(|handle| handle.kind() != home) {
            if let Ok(true) = handle.remove(key).await {
                self.note_moved(key, handle.kind(), home);
            }
        }
    }

    pub(crate) fn note_moved(&self, key: &EncodedKey, from: TierKind, to: TierKind) {
        self.counters.moves.increment();
        self.emit_of(key, |key| Event::Moved { key, from, to });
    }

    /// Writes to the home tier, or to the first alternative that accepts the entry.
    async fn store_at_home(
        &self,
        KeyInTiers { stack, key }: KeyInTiers<'_>,
        frame: Option<&Frame>,
        HomeWrite { facts, placement, stamp, precondition, mut failure }: HomeWrite<'_>,
    ) -> Result<Stored> {
        let identity = frame.map_or(0, |frame| identity(frame.head()));
        let (has_refused, mut stay) = (failure.is_some(), None);
        let stored = |placement, stay| {
            let is_told = stay != Some(Stay::Pending);
            Ok(Stored { placement, identity, stamp, is_told })
        };
        for home in homes(stack, &placement).iter().skip(usize::from(has_refused)) {
            if stay.is_none() && !stack.is_shared_home(home) {
                let write = LocalWrite { stack, key, facts, home, precondition };
                let may_stay = self.coherence.stay(self, write);
                stay = Some(may_stay.get().await);
            }
            if stay == Some(Stay::Superseded) {
                return stored(None, stay);
            }
            if home == TierKind::Memory {
                if home != placement.home {
                    self.counters.fallbacks_to_memory.increment();
                }
                return stored(Some(placed_at(home, placement)), stay);
            }
            // Not an error: a failed write is ignored, or a selector that measures admits the entry nowhere.
            let is_meant = home != placement.home || placement.reckoning.is_some();
            if home == TierKind::Null && is_meant {
                return stored(Some(placed_at(home, placement)), stay);
            }
            let handle = stack.tier(home);
            let (Some(handle), Some(frame)) = (handle, frame) else { continue };
            if precondition.applies_to(handle) {
                self.coherence.expect_own_write(key, identity);
            }
            match precondition.put(handle, key, frame).await {
                Ok(true) => {
                    if home != placement.home {
                        handle.counters().fallbacks.increment();
                    }
                    return stored(Some(placed_at(home, placement)), stay);
                }
                Ok(false) => return stored(None, stay),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| nowhere(stack, facts, &placement)))
    }
}

/// Returns the version of the entry in the shared tier, if it still is the frame of this identity, or
/// if another node removed that frame because it was outdated.
async fn version_to_replace(stack: &TierStack, key: &EncodedKey, own: u64) -> Result<Option<EntryVersion>> {
    let Some(shared) = stack.among_nodes() else { return Ok(None) };
    let VersionedFrame { frame, version, last_removal } = shared.look_up(key).await?;
    let is_own = match frame {
        Some(frame) => identity(&frame) == own,
        None => last_removal == LastRemoval::Outdated(own as u32),
    };
    Ok(version.filter(|_| is_own))
}

/// Removes the former entry from every tier, because no tier accepted the new one. A removal that
/// fails is counted, and that tier's entry is no longer trusted.
pub(crate) async fn forget(stack: &TierStack, key: &EncodedKey, precondition: Precondition) {
    for handle in cleared_by(stack, precondition) {
        let _counted = handle.remove(key).await;
    }
}

/// Returns the tiers from which a change may remove the entry. A change with a
/// precondition leaves the shared tier alone, because the entry there may be another node's.
fn cleared_by(stack: &TierStack, precondition: Precondition) -> impl Iterator<Item = &TierHandle> {
    let depends = precondition.is_some();
    stack.tiers.iter().filter(move |handle| !(depends && handle.is_among_nodes()))
}

/// Returns the actual placement: at the home tier or at an alternative.
fn placed_at(home: TierKind, placement: Placement) -> Placement {
    if home == placement.home {
        return placement;
    }
    let copy_in_memory = placement.copy_in_memory && home != TierKind::Memory;
    Placement {
        home,
        copy_in_memory,
        rule: "an alternative, because the home refused the entry",
        ..placement
    }
}

/// Returns the tiers to try in turn: the home, and what a failed write to it leaves.
fn homes(stack: &TierStack, placement: &Placement) -> TierList {
    let mut homes: TierList = std::iter::once(placement.home).collect();
    match stack.tier(placement.home).map(TierHandle::failed_writes) {
        Some(FailedWrites::Report) => {}
        Some(FailedWrites::Ignore) if placement.in_memory() => homes.push(TierKind::Memory),
        Some(FailedWrites::Ignore) => homes.push(TierKind::Null),
        _ => placement.alternatives.iter().for_each(|kind| homes.push(kind)),
    }
    homes
}

/// The error of an entry that no tier may hold: now, if one that could does not work at the moment.
fn nowhere(stack: &TierStack, facts: &Facts, placement: &Placement) -> Error {
    let is_down = |tier: &TierFacts| {
        !tier.healthy && tier.capability.stores && tier.capability.frame_bytes_max >= facts.bytes
    };
    match stack.tiers.iter().map(TierHandle::facts).find(is_down) {
        Some(tier) => Error::new(
            ErrorKind::Unavailable,
            "the tier takes no writes now, and no other tier may hold the entry",
        )
        .in_tier(tier.kind)
        .during("put"),
        None => Error::new(ErrorKind::TooLarge, format!("no tier accepts the entry: {}", placement.rule)),
    }
}
