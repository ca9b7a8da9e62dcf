//! Emits the events of the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::entry_meta::{Freshness, Tag};
use larder_core::erased::{AnyLookup, Key};
use larder_core::events::{Cause, Event, Extent, Writer};
use larder_core::invalidation::Invalidation;
use larder_core::key::EncodedKey;
use larder_core::place::Placement;
use larder_core::tier::TierKind;
use larder_core::{Error, Result};

use crate::engine::Engine;
use crate::read::refusal::is_sealed;
use crate::tier_stack::tier_handle::TierHandle;

impl Engine {
    /// Makes the layers of the tiers report when a tier fails and when it works again.
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

    /// Reports each tier that became unusable, with its reason.
    fn emit_troubles(&self) {
        for handle in self.tiers() {
            if let Some(why) = handle.new_trouble() {
                self.events.emit(|| Event::TierUnusable { tier: handle.kind(), why });
            }
        }
    }

    /// Clones the key of a lookup for an event, if there is a listener.
    #[inline]
    pub(crate) fn name_of(&self, key: &dyn AnyLookup) -> Option<Arc<Key>> {
        if !self.events.is_on() {
            return None;
        }
        let mut name = None;
        key.lend(&mut |key| name = self.events.name_any(key));
        name
    }

    /// Reports an event of an encoded key.
    #[inline]
    pub(crate) fn emit_of(&self, key: &EncodedKey, event: impl FnOnce(Arc<Key>) -> Event<Key>) {
        if !self.events.is_on() {
            return;
        }
        let Some(stack) = &self.stack else { return };
        // An undecodable key has no event; all keys were encoded by the same codec.
        if let Ok(key) = stack.keys.decode(key.as_bytes()) {
            self.events.emit(|| event(Arc::new(key)));
        }
    }

    /// Counts and reports a write that failed before it began.
    pub(crate) fn note_dropped(&self, key: &Key, error: &Error) {
        self.counters.dropped.increment();
        self.events.emit_of(self.events.name(key), |key| Event::Dropped { key, why: error.kind() });
    }

    /// Reports the result of a write. The caller holds the write guard.
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
            // Another node changed the entry first; its change stays.
            Ok(None) => {}
        }
        self.emit_evictions();
    }

    /// Reports that memory, the home of an entry, did not keep it: its capacity is zero, or was lowered
    /// meanwhile.
    pub(crate) fn emit_not_kept(&self, key: Option<Arc<Key>>, weight: u32) {
        let bytes = self.bounds().bytes.map(|_| u64::from(weight));
        let (tier, cause) = (TierKind::Memory, Cause::Capacity);
        self.events.emit_of(key, |key| Event::Evicted {
            key: Some(key),
            count: 1,
            tier,
            home: tier,
            bytes,
            cause,
        });
    }

    /// Reports invalidations by tag or of everything.
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

    /// Reports that a missed change was reconciled.
    pub(crate) fn emit_repaired(&self, key: &EncodedKey, tier: TierKind) {
        self.emit_of(key, |key| Event::Repaired { key: Some(key), tier });
    }

    /// Counts and reports an expired entry.
    pub(crate) fn note_over(&self, handle: &TierHandle, key: &EncodedKey) {
        handle.counters().expired.increment();
        self.emit_of(key, |key| Event::Expired { key, tier: handle.kind() });
    }

    /// Reports an entry that was refused with this error.
    pub(crate) fn emit_refusal(&self, key: &EncodedKey, tier: TierKind, error: &Error) {
        match is_sealed(error) {
            true => self.emit_of(key, |key| Event::Unopened { key, tier }),
            false => self.emit_refused(key, tier),
        }
    }

    /// Reports that an entry was corrupt or of another format.
    pub(crate) fn emit_refused(&self, key: &EncodedKey, tier: TierKind) {
        let cause = Cause::Refused;
        self.emit_of(key, |key| Event::Evicted {
            key: Some(key),
            count: 1,
            tier,
            home: tier,
            bytes: None,
            cause,
        });
    }

    /// Reports how many entries the byte tiers evicted since they were asked last, if
    /// that is due. The tiers do not say which entries those were.
    #[inline]
    pub(crate) fn emit_evictions(&self) {
        if self.events.is_look_due() {
            self.look_for_evictions();
        }
    }

    /// Does what [`emit_evictions`](Self::emit_evictions) does, due or not.
    pub(crate) fn look_for_evictions(&self) {
        if !self.events.is_on() {
            return;
        }
        self.emit_troubles();
        for handle in self.tiers() {
            let (count, tier) = (handle.new_evictions(), handle.kind());
            if count > 0 {
                let cause = Cause::Capacity;
                self.events.emit(|| Event::Evicted {
                    key: None,
                    count,
                    tier,
                    home: tier,
                    bytes: None,
                    cause,
                });
            }
        }
    }

    /// Removes an expired record from memory for a look-up that found it: its value is dropped and
    /// the listener hears of it now, and not when memory makes room.
    #[inline]
    pub(crate) fn release_expired(&self, key: &dyn AnyLookup) {
        if self.events.is_on() || self.expires.load(Ordering::Relaxed) {
            self.release_if_expired(key);
        }
    }

    #[cold]
    fn release_if_expired(&self, key: &dyn AnyLookup) {
        let is_over =
            || self.near_unused(key).is_some_and(|record| self.freshness(&record) == Freshness::Gone);
        if !is_over() {
            return;
        }
        let observation = self.key_locks.observe(self.key_locks.hash(key));
        if is_over()
            && let Some(_guard) = observation.claim()
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.name_of(key), erased);
        }
    }

    /// Reports that the entry in memory had expired, before the event of the entry that
    /// replaces it. The caller holds the write guard.
    pub(crate) fn release_former_if_expired(&self, key: &Key) {
        if self.events.is_on()
            && self.near_unused(key).is_some_and(|record| self.freshness(&record) != Freshness::Fresh)
        {
            let erased = self.erased(self.discard(key).as_ref());
            self.count_removal(self.events.name(key), erased);
        }
    }
}
