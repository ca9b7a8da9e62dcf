//! What of the engine is told as events.

use std::sync::Arc;

use larder_core::entry_meta::{Freshness, Tag};
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::events::{Cause, Event, Extent, Writer};
use larder_core::invalidation::Invalidation;
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::place::Placement;
use larder_core::tier::TierKind;
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::tier_stack::tier_handle::TierHandle;

impl Engine {
    /// Has the layers of the tiers emit when one fails and when it works again.
    pub(crate) fn listen_to_tiers(&self) {
        for handle in self.tiers() {
            let Some(emit) = self.events.emitter() else { return };
            let tier = handle.kind();
            handle.counters().signals.set_on_turn(move |line, up| {
                emit(if up { Event::TierUp { tier, line } } else { Event::TierDown { tier, line } });
            });
        }
        self.emit_troubles();
    }

    /// Tells of each tier that says why it cannot be used, where that is news.
    fn emit_troubles(&self) {
        for handle in self.tiers() {
            if let Some(why) = handle.new_trouble() {
                self.events.emit(|| Event::TierUnusable { tier: handle.kind(), why });
            }
        }
    }

    /// The key for an event, of whatever form it is asked for by.
    #[inline]
    pub(crate) fn name_of(&self, key: &dyn AnyLookup) -> Option<Arc<Key>> {
        if !self.events.is_on() {
            return None;
        }
        let mut name = None;
        key.lend(&mut |key| name = self.events.name_any(key));
        name
    }

    /// Tells of an entry as tiers know it.
    #[inline]
    pub(crate) fn emit_of(&self, key: &EncodedKey, event: impl FnOnce(Arc<Key>) -> Event<Key>) {
        if !self.events.is_on() {
            return;
        }
        let Some(stack) = &self.stack else { return };
        // Every key was encoded by the same codec; one that does not come back has no name.
        if let Ok(key) = stack.keys.decode(key.as_bytes()) {
            self.events.emit(|| event(Arc::new(key)));
        }
    }

    /// Counts a write that was given up before it began, and tells of it.
    pub(crate) fn note_dropped(&self, key: &Key, error: &Error) {
        self.counters.dropped.increment();
        self.events.emit_of(self.events.name(key), |key| Event::Dropped { key, why: error.kind() });
    }

    /// Tells how a write came out, for who holds the guard.
    pub(crate) fn emit_stored(
        &self,
        key: Option<Arc<Key>>,
        stored: Result<Option<Placement>, &Error>,
        by: Writer,
    ) {
        match stored {
            Ok(Some(placement)) => {
                self.events.emit_of(key, |key| Event::Inserted { key, home: placement.home, by });
            }
            Err(error) => self.events.emit_of(key, |key| Event::Dropped { key, why: error.kind() }),
            // Another node changed the entry first: theirs stays.
            Ok(None) => {}
        }
        self.emit_evictions();
    }

    /// Tells what was invalidated by invalidations.
    pub(crate) fn emit_invalidations(&self, invalidations: Vec<Invalidation>) {
        for invalidation in invalidations {
            let extent = match invalidation {
                Invalidation::Tag(tag) => Extent::Tag(Tag::from(&*tag)),
                Invalidation::All => Extent::All,
                Invalidation::Cleared => Extent::Cleared,
                Invalidation::Time => continue,
            };
            self.events.emit(|| Event::Invalidated(extent));
        }
    }

    /// Tells that what a tier had missed was made up for.
    pub(crate) fn emit_repaired(&self, key: &EncodedKey, tier: TierKind) {
        self.emit_of(key, |key| Event::Repaired { key: Some(key), tier });
    }

    /// Counts an entry that was past its time, and tells of it.
    pub(crate) fn note_over(&self, handle: &TierHandle, key: &EncodedKey) {
        handle.counters().expired.increment();
        self.emit_of(key, |key| Event::Expired { key, tier: handle.kind() });
    }

    /// Tells that an entry was found torn or foreign.
    pub(crate) fn emit_refused(&self, key: &EncodedKey, tier: TierKind) {
        let cause = Cause::Refused;
        self.emit_of(key, |key| Event::Evicted { key: Some(key), count: 1, tier, home: tier, cause });
    }

    /// Tells what tiers of bytes let go of since they were asked last, where
    /// that is due. Which entries those were they do not say.
    #[inline]
    pub(crate) fn emit_evictions(&self) {
        if self.events.is_look_due() {
            self.look_for_evictions();
        }
    }

    /// As [`emit_evictions`](Self::emit_evictions), due or not.
    pub(crate) fn look_for_evictions(&self) {
        if !self.events.is_on() {
            return;
        }
        self.emit_troubles();
        for handle in self.tiers() {
            let (count, tier) = (handle.new_evictions(), handle.kind());
            if count > 0 {
                let cause = Cause::Capacity;
                self.events.emit(|| Event::Evicted { key: None, count, tier, home: tier, cause });
            }
        }
    }

    /// Lets go of a record in memory that nobody may be served any more, so that
    /// the listener hears of it now and not when memory makes room. Without a
    /// listener it may lie there.
    #[cold]
    pub(crate) fn release_expired(&self, key: &dyn AnyLookup) {
        if !self.events.is_on() {
            return;
        }
        let observation = self.key_locks.observe(self.key_locks.hash(key));
        let is_over = |record: &Record<Value>| self.freshness(record) == Freshness::Gone;
        if self.near_unused(key).as_ref().is_some_and(is_over)
            && let Some(_guard) = observation.claim()
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.name_of(key), erased);
        }
    }

    /// Tells that the entry which is about to be replaced in memory had expired, for who
    /// holds the guard: before the new one is told of.
    pub(crate) fn release_former_if_expired(&self, key: &Key) {
        if self.events.is_on()
            && self.near_unused(key).is_some_and(|record| self.freshness(&record) != Freshness::Fresh)
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.events.name(key), erased);
        }
    }
}
