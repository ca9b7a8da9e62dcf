//! Makes room on a full disk.
//!
//! Expired entries are removed first, then the entries that exceed the shrunken budget. Both write
//! a little: removals to the journal, and new sorted runs. If even that does not fit, files are deleted
//! without copying anything: the segments whose entries have all expired, then the oldest segments and
//! sorted runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::frame::{FIXED_LEN, Frame, kept_until};
use larder_core::{Durability, Result};
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::layout::{remove_file, rounded};
use crate::disk::reopen::PROBE_BYTES;
use crate::disk::row::{self, Pointer, Row};
use crate::disk::space::eviction::{Survivors, pointer_into};
use crate::disk::store::Store;
use crate::durable_sync::available;
use crate::pressure::{self, Shortage};

/// Most expired rows that one pass removes.
const EXPIRED_AT_ONCE: usize = 100_000;

/// Shortest time between two searches for expired entries while the disk has less room than the
/// budget. A search reads the head of every entry.
const EXPIRED_PAUSE: Duration = Duration::from_secs(1);

/// Bytes that must be free to reopen a failed store: the probe before it, and the new journal.
const REOPEN_BYTES: u64 = 2 * PROBE_BYTES as u64;

/// A tier that takes less than this is not cleared, because that would not free enough.
const CLEARED_BYTES_MIN: u64 = 4 << 20;

impl DiskTier {
    /// Runs `write`. If the disk is full, evicts entries and retries once.
    pub(in crate::disk) fn retry_when_full<T>(&self, write: impl FnMut() -> Result<T>) -> Result<T> {
        pressure::retry_when_full(
            &self.budget,
            || self.available(),
            write,
            |shortage| self.free_space(shortage),
        )
    }

    /// Bytes of the disk that this process may take, with those that deleted files still take.
    pub(in crate::disk) fn available(&self) -> Option<u64> {
        let (bytes, _) = available(self.layout.dir())?;
        Some(bytes + self.layout.deferred().bytes())
    }

    /// Fits the budget to the free space, if a check is due. `bytes` are about to be written.
    pub(in crate::disk) fn fit_budget_if_due(&self, bytes: u64) {
        if self.budget.is_due(bytes) {
            self.enforce_budget_if_free();
            self.fit_budget();
        }
    }

    /// Fits the budget to the free space.
    pub(in crate::disk) fn fit_budget(&self) {
        self.budget.fit_to_free_space(self.available());
        self.layout.deferred().set_off(self.budget.is_short());
    }

    /// Removes expired entries, if the disk has less room than the budget.
    pub(in crate::disk) fn drop_expired_if_short(&self) -> Result<()> {
        let is_due = || self.expiry_search.allows(self.budget.elapsed(), EXPIRED_PAUSE);
        if self.budget.is_short() && is_due() { self.drop_expired() } else { Ok(()) }
    }

    /// Records when the entry of a frame expires.
    pub(in crate::disk) fn note_deadline(&self, frame: &Frame) {
        let until = kept_until(frame.head()).unwrap_or(Time::NEVER);
        self.expires_at.fetch_min(until.as_millis(), Ordering::AcqRel);
    }

    fn free_space(&self, shortage: Shortage) -> Result<()> {
        let made = self.layout.deferred().at_once(|| match shortage {
            Shortage::Room => self.make_room_on_disk(),
            Shortage::Handles => self.free_handle(),
        });
        if self.needs_reopen.load(Ordering::Acquire) {
            self.reopen_now();
        }
        if self.marker.is_withdrawn() {
            // The journal lacks a removal. Then a flush writes it to a sorted run.
            self.flush_now()?;
        }
        made
    }

    fn make_room_on_disk(&self) -> Result<()> {
        let mut compaction = self.compaction.write();
        let kept = self.drop_expired();
        let kept = kept.and_then(|()| self.enforce_budget(&mut compaction));
        let Err(error) = kept else { return Ok(()) };
        tracing::debug!(target: "larder", %error, "cannot record evictions; the oldest files are deleted instead");
        *compaction = None;
        let has_dropped = self.drop_oldest()?;
        drop(compaction);
        // All data is in memtables. Clearing them may make room.
        if has_dropped || self.budget.used() < CLEARED_BYTES_MIN { Ok(()) } else { self.start_empty() }
    }

    /// Evicts the oldest sealed segment, since each of them holds a file open.
    fn free_handle(&self) -> Result<()> {
        let _alone = self.compaction.write();
        let sealed = self.with_store(|store| Ok(store.segments.sealed()))?;
        sealed.first().map_or(Ok(()), |oldest| self.drop_segment(oldest.number, Survivors::Read))
    }

    /// Removes the rows of expired entries. Reads the head of each entry, unless none can have
    /// expired.
    fn drop_expired(&self) -> Result<()> {
        let now = self.budget.now();
        if Time::from_millis(self.expires_at.load(Ordering::Acquire)) > now {
            return Ok(());
        }
        self.expires_at.store(Time::NEVER.as_millis(), Ordering::Release);
        let dropped = self.with_store(|store| self.drop_expired_of(store, now));
        if dropped.is_err() {
            self.expires_at.store(0, Ordering::Release);
        }
        dropped
    }

    fn drop_expired_of(&self, store: &Store, now: Time) -> Result<()> {
        let mut expired: Vec<IVec> = Vec::new();
        store.tables.each(|_, row, value| {
            let until = expiry_of(store, &value);
            let is_left = until > now || expired.len() == EXPIRED_AT_ONCE;
            if is_left {
                self.expires_at.fetch_min(until.as_millis(), Ordering::AcqRel);
            } else {
                expired.push(row);
            }
            Ok(())
        })?;
        for row in expired {
            let _stripe = store.lock(&row);
            let is_expired = store.tables.get(&row)?.is_some_and(|value| expiry_of(store, &value) <= now);
            if is_expired && store.remove_row(&row)? {
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        store.journal.sync_all()
    }

    /// Deletes segments and sorted runs with all of their entries, until there is room: first the segments
    /// whose entries have all expired, then the oldest files. Deletes at least one, and returns whether there
    /// was one. The caller holds `compaction`.
    fn drop_oldest(&self) -> Result<bool> {
        let mut has_dropped = self.drop_expired_segments()?;
        while !has_dropped || self.lacks_room() {
            let oldest =
                self.with_store(|store| Ok(store.segments.sealed().first().map(|oldest| oldest.number)))?;
            match oldest {
                Some(number) => self.delete_segment(number)?,
                None if self.delete_oldest_run()? => {}
                None => break,
            }
            has_dropped = true;
        }
        Ok(has_dropped)
    }

    /// Whether usage exceeds the budget, or the disk has no room to reopen a failed store.
    fn lacks_room(&self) -> bool {
        let must_reopen = self.needs_reopen.load(Ordering::Acquire);
        self.budget.excess(0) > 0
            || must_reopen && self.available().is_some_and(|available| available < REOPEN_BYTES)
    }

    /// Deletes the segments whose entries have all expired. Returns whether there was one.
    fn drop_expired_segments(&self) -> Result<bool> {
        let now = self.budget.now();
        let expired = self.with_store(|store| {
            store.segments.seal_active();
            let sealed = store.segments.sealed().into_iter().map(|sealed| sealed.number);
            Ok(sealed.filter(|number| has_expired(store, *number, now)).collect::<Vec<_>>())
        })?;
        expired.iter().try_for_each(|number| self.delete_segment(*number))?;
        Ok(!expired.is_empty())
    }

    /// Deletes a segment. Its entries become misses.
    fn delete_segment(&self, number: u64) -> Result<()> {
        self.with_store(|store| {
            let Some(segment) = store.segments.segment(number) else { return Ok(()) };
            self.evictions.fetch_add(segment.take_rows().len() as u64, Ordering::Relaxed);
            store.segments.delete(number);
            Ok(())
        })
    }

    /// Deletes the oldest sorted run. Returns whether there was one. No older place has its rows,
    /// so its tombstones are not needed.
    fn delete_oldest_run(&self) -> Result<bool> {
        let oldest = self.with_store(|store| Ok(store.tables.runs.last().cloned()))?;
        let Some(run) = oldest else { return Ok(false) };
        if self.with_store(Store::drop_lingering_journals).is_err() {
            self.marker.withdraw()?;
        }
        remove_file(run.path())?;
        if self.marker.durability() == Durability::Synced {
            self.layout.sync_names()?;
        }
        if let Some(store) = self.state.write().as_mut() {
            store.tables.replace(&[Arc::clone(&run)], None);
        }
        self.budget.shrink(rounded(run.len()));
        self.evictions.fetch_add(run.counts.live(), Ordering::Relaxed);
        Ok(true)
    }
}

/// When the entry of a row expires. A value that is not a frame counts as expired long ago.
fn expiry_of(store: &Store, value: &[u8]) -> Time {
    match Row::pointer(value) {
        Some(pointer) => expiry_of_record(store, pointer),
        None => row::kept_until(value).unwrap_or(Time::from_millis(0)),
    }
}

/// When the entry in a segment expires. An entry that cannot be read now is not known to expire.
fn expiry_of_record(store: &Store, pointer: Pointer) -> Time {
    let Ok(head) = store.segments.peek(pointer, FIXED_LEN as u64) else { return Time::NEVER };
    head.as_deref().and_then(kept_until).unwrap_or(Time::from_millis(0))
}

/// Whether all entries of a segment have expired. An entry that cannot be read now has not.
fn has_expired(store: &Store, number: u64, now: Time) -> bool {
    let has_row_expired = |row: &IVec| match pointer_into(store, row, number) {
        Ok(Some(pointer)) => expiry_of_record(store, pointer) <= now,
        Ok(None) => true,
        Err(_) => false,
    };
    store.segments.segment(number).is_some_and(|segment| segment.rows().iter().all(has_row_expired))
}
