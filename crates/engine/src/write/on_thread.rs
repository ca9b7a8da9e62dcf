//! Writes without a future, of a thread whose tiers answer without one.
//!
//! As for reads (`read/on_thread.rs`): a put into a database takes a few microseconds, of which the futures of
//! a write would be a quarter. A write that meets anything beyond the plain case gives back what it has, or
//! goes on with the futures: another write of the key, an entry that memory is home of, a tier that fails.

use std::sync::Arc;

use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{Key, Value};
use larder_core::events::Writer;
use larder_core::frame::Frame;
use larder_core::place::Placement;
use larder_core::{Error, ErrorKind, Result};
use larder_exec::runtime::{block_on, on_this_thread};

use crate::engine::Engine;
use crate::key_lock::{TryLock, WriteTurn};
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::forget;
use crate::write::prepared_entry::{NewValue, PreparedEntry};
use crate::write::stored::{Stored, StoredEntry};

/// A write that was not begun.
type NotBegun = (Key, Value, EntryOptions);

impl Engine {
    /// As [`insert`](Self::insert), for a thread. Gives its arguments back if that takes futures.
    #[expect(clippy::result_large_err, reason = "the arguments, as they came: a box would be an allocation")]
    pub(crate) fn insert_on_thread(
        self: &Arc<Self>,
        (key, value, options): NotBegun,
    ) -> Result<Result<Placement>, NotBegun> {
        let is_plain = |handle: &TierHandle| !handle.is_read_only() && !handle.quarantine().is_any();
        let is_plain = self.reads_on_thread && self.tiers().iter().all(is_plain);
        if !is_plain || self.has_key_conflicts() || options.check().is_err() {
            return Err((key, value, options));
        }
        Ok(on_this_thread(|| {
            let turn = WriteTurn::of_thread(self.key_locks.hash(&key));
            let encoded = self.check_open().and_then(|()| self.encode_key(&key));
            let encoded = encoded.inspect_err(|error| self.note_dropped(&key, error))?;
            let mut prepared = self.prepare(&key, encoded, NewValue::plain(value, options));
            if self.has_key_conflicts() {
                // This very key may be the one that comes with another encoding.
                return block_on(self.insert_prepared(&turn, key, prepared));
            }
            match self.key_locks.try_write(&turn) {
                TryLock::Granted(_guard) if self.check_not_closed().is_ok() && self.lifecycle.is_on() => {
                    (prepared.stamp, prepared.is_written) = (self.invalidations.stamp(), true);
                    self.store_on_thread(turn.hash(), key, prepared)
                }
                other => {
                    drop(other);
                    block_on(self.insert_prepared(&turn, key, prepared))
                }
            }
        }))
    }

    /// As [`store_with_seq`](Self::store_with_seq). The caller holds the guard.
    fn store_on_thread(&self, hash: u64, key: Key, mut prepared: PreparedEntry) -> Result<Placement> {
        let Some((placement, frame)) = self.plain_frame(&mut prepared) else {
            return block_on(self.store_with_seq(hash, key, prepared));
        };
        let name = self.events.name(&key);
        self.release_former_if_expired(&key);
        // As in `replace_beyond`: a reader that finds the new value must not find the old one next.
        self.discard(&key);
        let put = self.put_on_thread(&prepared, placement, &frame);
        // A tier that is short of room fails once, so that a caller learns of it: another try would hide that.
        let is_told = |error: &Error| error.kind() == ErrorKind::Full && placement.alternatives.is_empty();
        match (&put, &self.stack, &prepared.encoded) {
            (Ok(()), ..) => {}
            // The former entry is outdated.
            (Err(error), Some(stack), Some(encoded)) if is_told(error) => {
                block_on(forget(stack, encoded, prepared.precondition));
            }
            // The futures try once more, and then the alternatives.
            (Err(_), ..) => {
                prepared.return_payload(frame);
                return block_on(self.store_with_seq(hash, key, prepared));
            }
        }
        let PreparedEntry { value, terms, created, weight, load_cost, stamp, plan, .. } = prepared;
        // The payload may share the memory of the value, which memory takes over.
        drop((plan, frame));
        let entry = StoredEntry { name, key, value, terms, created, weight, load_cost, copy_tag: None };
        let stored = put.map(|()| Stored::at(placement, stamp));
        let stored = self.end_store(entry, Writer::Caller, stored);
        self.end_write(hash, stored)
    }

    /// Returns the frame and the placement of an entry that is encoded and at home in a tier that has room for
    /// it.
    fn plain_frame(&self, prepared: &mut PreparedEntry) -> Option<(Placement, Frame)> {
        let stack = self.stack.as_ref()?;
        let placement = prepared.plan.as_ref().ok()?.as_ref()?.placement;
        let handle = stack.tier(placement.home)?;
        let frame = prepared.take_frame(stack)?;
        if frame.len() as u64 > handle.inner().capability().frame_bytes_max {
            prepared.return_payload(frame);
            return None;
        }
        Some((placement, frame))
    }

    /// Removes the entry from the other tiers, and writes it to its home.
    fn put_on_thread(&self, prepared: &PreparedEntry, placement: Placement, frame: &Frame) -> Result<()> {
        let (Some(stack), Some(encoded)) = (&self.stack, &prepared.encoded) else { return Err(no_home()) };
        for handle in stack.tiers.iter().filter(|handle| handle.kind() != placement.home) {
            if let Ok(true) = handle.remove_blocking(encoded) {
                self.note_moved(encoded, handle.kind(), placement.home);
            }
        }
        stack
            .tier(placement.home)
            .map_or_else(|| Err(no_home()), |handle| handle.put_blocking(encoded, frame))
    }
}

fn no_home() -> Error {
    Error::new(ErrorKind::Unavailable, "the entry has no home")
}
