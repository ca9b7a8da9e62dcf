//! What of the engine is told as events.

use std::sync::Arc;

use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::events::{Cause, Event, Extent, Writer};
use larder_core::key::EncodedKey;
use larder_core::marks::Mark;
use larder_core::memory::Record;
use larder_core::place::Placement;
use larder_core::terms::{Freshness, Tag};
use larder_core::tier::TierKind;
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::slot::Slot;

impl Engine {
    /// Has the layers of the tiers tell when one fails and when it works again.
    pub(crate) fn listen_to_tiers(&self) {
        for slot in self.slots() {
            let Some(tell) = self.events.teller() else { return };
            let tier = slot.kind();
            slot.counters().signals.set_on_turn(move |line, up| {
                tell(if up { Event::TierUp { tier, line } } else { Event::TierDown { tier, line } });
            });
        }
        self.tell_troubles();
    }

    /// Tells of each tier that says why it cannot be used, where that is news.
    fn tell_troubles(&self) {
        for slot in self.slots() {
            if let Some(why) = slot.new_trouble() {
                self.events.tell(|| Event::TierUnusable { tier: slot.kind(), why });
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
    pub(crate) fn tell_of(&self, key: &EncodedKey, event: impl FnOnce(Arc<Key>) -> Event<Key>) {
        if !self.events.is_on() {
            return;
        }
        let Some(wire) = &self.wire else { return };
        // Every key was encoded by the same codec; one that does not come back has no name.
        if let Ok(key) = wire.keys.decode(key.as_bytes()) {
            self.events.tell(|| event(Arc::new(key)));
        }
    }

    /// Counts a write that was given up before it began, and tells of it.
    pub(crate) fn note_dropped(&self, key: &Key, error: &Error) {
        self.counters.dropped.increment();
        self.events.tell_of(self.events.name(key), |key| Event::Dropped { key, why: error.kind() });
    }

    /// Tells how a write came out, for who holds the ticket.
    pub(crate) fn tell_stored(
        &self,
        key: Option<Arc<Key>>,
        stored: Result<Option<Placement>, &Error>,
        by: Writer,
    ) {
        match stored {
            Ok(Some(placement)) => {
                self.events.tell_of(key, |key| Event::Inserted { key, home: placement.home, by });
            }
            Err(error) => self.events.tell_of(key, |key| Event::Dropped { key, why: error.kind() }),
            // Another node changed the entry first: theirs stays.
            Ok(None) => {}
        }
        self.tell_evictions();
    }

    /// Tells what was invalidated by marks.
    pub(crate) fn tell_marks(&self, marks: Vec<Mark>) {
        for mark in marks {
            let extent = match mark {
                Mark::Tag(tag) => Extent::Tag(Tag::from(&*tag)),
                Mark::All => Extent::All,
                Mark::Cleared => Extent::Cleared,
                Mark::Time => continue,
            };
            self.events.tell(|| Event::Invalidated(extent));
        }
    }

    /// Tells that what a tier had missed was made up for.
    pub(crate) fn tell_repaired(&self, key: &EncodedKey, tier: TierKind) {
        self.tell_of(key, |key| Event::Repaired { key: Some(key), tier });
    }

    /// Counts an entry that was past its time, and tells of it.
    pub(crate) fn note_over(&self, slot: &Slot, key: &EncodedKey) {
        slot.counters().expired.increment();
        self.tell_of(key, |key| Event::Expired { key, tier: slot.kind() });
    }

    /// Tells that an entry was found torn or foreign.
    pub(crate) fn tell_refused(&self, key: &EncodedKey, tier: TierKind) {
        let cause = Cause::Refused;
        self.tell_of(key, |key| Event::Evicted { key: Some(key), count: 1, tier, home: tier, cause });
    }

    /// Tells what tiers of bytes let go of since they were asked last, where
    /// that is due. Which entries those were they do not say.
    #[inline]
    pub(crate) fn tell_evictions(&self) {
        if self.events.is_look_due() {
            self.look_for_evictions();
        }
    }

    /// As [`tell_evictions`](Self::tell_evictions), due or not.
    pub(crate) fn look_for_evictions(&self) {
        if !self.events.is_on() {
            return;
        }
        self.tell_troubles();
        for slot in self.slots() {
            let (count, tier) = (slot.new_evictions(), slot.kind());
            if count > 0 {
                let cause = Cause::Capacity;
                self.events.tell(|| Event::Evicted { key: None, count, tier, home: tier, cause });
            }
        }
    }

    /// Lets go of a record in memory that nobody may be served any more, so that
    /// the listener hears of it now and not when memory makes room. Without a
    /// listener it may lie there.
    #[cold]
    pub(crate) fn let_go_over(&self, key: &dyn AnyLookup) {
        if !self.events.is_on() {
            return;
        }
        let observation = self.gates.observe(self.gates.hash(key));
        let is_over = |record: &Record<Value>| self.freshness(record) == Freshness::Gone;
        if self.near_unused(key).as_ref().is_some_and(is_over)
            && let Some(_ticket) = observation.claim()
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.name_of(key), erased);
        }
    }

    /// Tells that the entry which is about to be replaced in memory had expired, for who
    /// holds the ticket: before the new one is told of.
    pub(crate) fn let_go_of_expired(&self, key: &Key) {
        if self.events.is_on()
            && self.near_unused(key).is_some_and(|record| self.freshness(&record) != Freshness::Fresh)
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.events.name(key), erased);
        }
    }
}
