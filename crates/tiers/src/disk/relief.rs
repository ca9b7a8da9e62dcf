//! Making room on a medium that is full.
//!
//! What has expired goes first, then what the shrunken budget has no room for.
//! Both write a little: removals to the journal, packs anew. Where not even that
//! fits, the oldest segments and packs are deleted as they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::frame::{FIXED_LEN, Frame, kept_until};
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::eviction::Carry;
use crate::disk::layout::{remove_file, rounded};
use crate::disk::row::Row;
use crate::disk::store::Store;
use crate::durable_sync::available;
use crate::pressure::{self, Shortage};

/// So many expired rows are removed at once at most.
const EXPIRED_AT_ONCE: usize = 100_000;

/// The shortest time between two times that expired entries make room for others, on a
/// medium with less room than the budget: that reads the head of every entry.
const EXPIRED_PAUSE: Duration = Duration::from_secs(1);

/// A tier that takes less than this is not emptied: that would not free enough.
const EMPTIED_BYTES_MIN: u64 = 4 << 20;

impl DiskTier {
    /// Runs `write`, and once more after entries were evicted where the medium has no room.
    pub(in crate::disk) fn relieved<T>(&self, write: impl FnMut() -> Result<T>) -> Result<T> {
        pressure::relieved(&self.space, || self.available(), write, |shortage| self.relieve(shortage))
    }

    /// Bytes of the medium that this process may take.
    pub(in crate::disk) fn available(&self) -> Option<u64> {
        available(self.layout.dir()).map(|(bytes, _)| bytes)
    }

    /// Compacts what is to be compacted and fits the budget to the medium, now and then.
    /// `bytes` are about to be written.
    pub(in crate::disk) fn look_at_medium(&self, bytes: u64) {
        if self.space.is_due(bytes) {
            self.tend();
            self.space.fit(self.available());
        }
    }

    /// Removes what has expired, where the medium has less room than the budget.
    pub(in crate::disk) fn spare_unexpired(&self) -> Result<()> {
        let is_time = || self.looked_for_expired.is_over(self.space.elapsed(), EXPIRED_PAUSE);
        if self.space.is_short() && is_time() { self.drop_expired() } else { Ok(()) }
    }

    /// Remembers when the entry of a frame expires.
    pub(in crate::disk) fn note_deadline(&self, frame: &Frame) {
        let until = kept_until(frame.head()).unwrap_or(Time::NEVER);
        self.expires_at.fetch_min(until.as_millis(), Ordering::AcqRel);
    }

    fn relieve(&self, shortage: Shortage) -> Result<()> {
        let made = match shortage {
            Shortage::Room => self.make_room_on_medium(),
            Shortage::Handles => self.free_handle(),
        };
        if self.suspect.load(Ordering::Acquire) {
            self.revive_now();
        }
        if self.marker.is_withdrawn() {
            // A removal that is in no journal: the databases are to have it soon.
            self.flush_now()?;
        }
        made
    }

    fn make_room_on_medium(&self) -> Result<()> {
        let mut upkeep = self.upkeep.write();
        let kept = self.reaper.settle().and_then(|()| self.drop_expired());
        let kept = kept.and_then(|()| self.keep_budget(&mut upkeep));
        let Err(error) = kept else { return Ok(()) };
        tracing::debug!(target: "larder", %error, "what is evicted cannot be written down");
        *upkeep = None;
        let has_dropped = self.drop_oldest()?;
        drop(upkeep);
        // All there is lies in databases: emptied, they may have room.
        if has_dropped || self.space.used() < EMPTIED_BYTES_MIN { Ok(()) } else { self.start_anew() }
    }

    /// Each sealed segment holds a file open.
    fn free_handle(&self) -> Result<()> {
        let _alone = self.upkeep.write();
        let sealed = self.with_store(|store| Ok(store.segments.sealed()))?;
        sealed.first().map_or(Ok(()), |oldest| self.drop_segment(oldest.number, Carry::Read))
    }

    /// Removes the rows of expired entries. Reads the head of each entry, unless
    /// none can have expired.
    fn drop_expired(&self) -> Result<()> {
        let now = self.space.now();
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
        store.databases.each(|_, row, value| {
            let until = until(store, &value);
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
            let is_expired = store.databases.get(&row)?.is_some_and(|value| until(store, &value) <= now);
            if is_expired && store.forget(&row)? {
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        store.journal.settle()
    }

    /// Deletes the oldest segments and packs, whatever is in them, until the budget
    /// holds, and one of them in any case; whether there was one. The caller
    /// holds `upkeep`.
    fn drop_oldest(&self) -> Result<bool> {
        let mut has_dropped = false;
        loop {
            let sealed = self.with_store(|store| {
                store.segments.seal_active();
                Ok(store.segments.sealed().first().map(|oldest| oldest.number))
            })?;
            match sealed {
                Some(number) => self.delete_segment(number)?,
                None if self.delete_oldest_pack()? => {}
                None => return Ok(has_dropped),
            }
            has_dropped = true;
            if self.space.excess(0) == 0 {
                return Ok(true);
            }
        }
    }

    /// Deletes a segment; its entries are absent from then on.
    fn delete_segment(&self, number: u64) -> Result<()> {
        self.with_store(|store| {
            let Some(segment) = store.segments.segment(number) else { return Ok(()) };
            self.evictions.fetch_add(segment.take_rows().len() as u64, Ordering::Relaxed);
            store.segments.delete(number);
            Ok(())
        })
    }

    /// Deletes the oldest pack; whether there was one. Nothing older has its rows,
    /// so what it says of them is not missed.
    fn delete_oldest_pack(&self) -> Result<bool> {
        let oldest = self.with_store(|store| Ok(store.databases.packs.last().cloned()))?;
        let Some(pack) = oldest else { return Ok(false) };
        // A journal may have a record of its rows, and must not bring back half of them.
        let is_dropped = self
            .with_store(|store| Ok(store.journal.is_dropped(pack.journal) || store.checkpoint().is_ok()))?;
        if !is_dropped {
            self.marker.withdraw()?;
        }
        remove_file(pack.path())?;
        if let Some(store) = self.state.write().as_mut() {
            store.databases.replace(&[Arc::clone(&pack)], None);
        }
        self.space.shrink(rounded(pack.len()));
        self.evictions.fetch_add(pack.counts.live(), Ordering::Relaxed);
        Ok(true)
    }
}

/// Until when the entry of a row may serve; what is no frame has expired long ago.
fn until(store: &Store, value: &[u8]) -> Time {
    let head = match Row::parse(value) {
        Some(Row::Inline(frame)) => kept_until(frame),
        Some(Row::Record(pointer)) => {
            // One that cannot be read now is not known to be expired.
            let Ok(head) = store.segments.peek(pointer, FIXED_LEN as u64) else { return Time::NEVER };
            head.as_deref().and_then(kept_until)
        }
        None => None,
    };
    head.unwrap_or(Time::from_millis(0))
}
