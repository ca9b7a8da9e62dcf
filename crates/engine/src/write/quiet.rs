//! Writes to a shared tier that does not block, in the plain case.
//!
//! The future of a write has every case in it, and is moved into its section and through the layers of its
//! calls. Here what is encoded waits in one allocation, and only the write to the home tier is awaited. A write
//! that meets anything else (another write of the key, a home that refuses, an invalidation meanwhile) goes on
//! with the future that has every case.

use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::Key;
use larder_core::events::Writer;
use larder_core::frame::Frame;
use larder_core::place::Placement;
use larder_exec::runtime::Runtime;

use crate::engine::Engine;
use crate::invalidation::log::EntryAge;
use crate::key_lock::{TryLock, WriteTurn};
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::prepared_entry::{EarlyWrite, PreparedEntry};
use crate::write::stored::{Stored, StoredEntry};

/// A write that has a turn and is prepared.
pub(crate) struct QuietWrite {
    pub(crate) turn: WriteTurn,
    pub(crate) key: Key,
    /// On the heap: it is moved several times.
    pub(crate) prepared: Box<PreparedEntry>,
}

/// The parts of the plain case.
struct Plain<'a> {
    stack: &'a TierStack,
    home: &'a TierHandle,
    placement: Placement,
    frame: Frame,
}

impl Engine {
    /// Whether writes to the tiers may be plain: nothing is to be repaired first, and the first tier is one that
    /// nodes share.
    pub(crate) fn is_quiet(&self) -> bool {
        let Some(stack) = &self.stack else { return false };
        let first = self.asked_before_section(stack);
        first.is_some_and(|first| first.is_among_nodes() && !first.is_read_only())
    }

    /// As [`insert_prepared`](Self::insert_prepared), in a section.
    pub(crate) async fn insert_quiet<W: Runtime>(self: &Arc<Self>, write: QuietWrite) -> Result<Placement> {
        let engine = Arc::clone(self);
        self.drive::<W, _>(false, async move {
            let QuietWrite { turn, key, mut prepared } = write;
            let _guard = match engine.key_locks.try_write(&turn) {
                TryLock::Granted(guard) if engine.check_not_closed().is_ok() && engine.lifecycle.is_on() => {
                    guard
                }
                other => {
                    drop(other);
                    return Box::pin(async move { engine.insert_prepared(&turn, key, *prepared).await })
                        .await;
                }
            };
            (prepared.stamp, prepared.is_written) = (engine.invalidations.stamp(), true);
            let plain = engine.plain_write(&mut prepared);
            let (Some(plain), Some(encoded)) = (plain, &prepared.encoded) else {
                let stored = async { engine.store_with_seq(turn.hash(), key, *prepared).await };
                return Box::pin(stored).await;
            };
            let name = engine.events.name(&key);
            engine.release_former_if_expired(&key);
            let Plain { stack, home, placement, frame } = plain;
            // In the order of `store` and `replace_beyond`.
            let copy_tag = engine.coherence.copy_tag();
            engine.coherence.note_copy(encoded);
            let former = engine.discard_copy(&key).flatten();
            let base = engine.base_of(stack, encoded, former);
            let mut early = EarlyWrite::new(copy_tag, base, &frame);
            match home.put(encoded, &frame).await {
                Ok(()) => early.has_arrived = true,
                Err(error) => early.failure = Some(error),
            }
            let entry = EntryAge::new(prepared.stamp, &prepared.terms);
            if !early.has_arrived || engine.is_passed(stack, placement.home, entry).await {
                prepared.return_payload(frame);
                let prepared = prepared.begun(early);
                let stored = async { engine.store_with_seq(turn.hash(), key, prepared).await };
                return Box::pin(stored).await;
            }
            engine.note_base(stack, encoded, base);
            // The payload may share the memory of the value, which memory takes over.
            drop(frame);
            let PreparedEntry { value, terms, created, weight, load_cost, stamp, plan, .. } = *prepared;
            drop(plan);
            let entry = StoredEntry { name, key, value, terms, created, weight, load_cost, copy_tag };
            let stored = Stored { identity: early.identity, ..Stored::at(placement, stamp) };
            let stored = engine.end_store(entry, Writer::Caller, Ok(stored));
            engine.end_write(turn.hash(), stored)
        })
        .await?
    }

    /// Returns the frame of an entry whose home is the first tier, if all other tiers surely lack the key.
    fn plain_write(&self, prepared: &mut PreparedEntry) -> Option<Plain<'_>> {
        let (stack, encoded) = (self.stack.as_ref()?, prepared.encoded.as_ref()?);
        let (home, others) = stack.tiers.split_first()?;
        let placement = prepared.plan.as_ref().ok()?.as_ref()?.placement;
        let is_plain = placement.home == home.kind()
            && self.is_quiet()
            && others.iter().all(|other| other.inner().lacks(encoded));
        if !is_plain {
            return None;
        }
        let frame = prepared.take_frame(stack)?;
        if frame.len() as u64 > home.inner().capability().frame_bytes_max {
            prepared.return_payload(frame);
            return None;
        }
        Some(Plain { stack, home, placement, frame })
    }
}
