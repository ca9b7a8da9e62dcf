//! What only a look at the whole record needs, by slot.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::LiveEntryMeta;

type Terms = Option<Arc<LiveEntryMeta>>;

/// The times of writing and the metadata of the entries of a shard: 8 bytes an entry if no entry has metadata, and
/// 16 otherwise.
#[derive(Default)]
pub(super) struct Facts {
    created: Vec<Time>,
    /// Shorter than the number of slots, if the last ones have no metadata.
    terms: Vec<Terms>,
}

impl Facts {
    /// Enters the facts of a record. Returns the former metadata of the slot.
    #[inline]
    pub(super) fn set(&mut self, slot: u32, created: Time, terms: Terms) -> Terms {
        match self.created.get_mut(slot as usize) {
            Some(place) => *place = created,
            // Slots are given in order.
            None => push(&mut self.created, created),
        }
        if terms.is_none() && self.terms.is_empty() { None } else { self.set_terms(slot as usize, terms) }
    }

    fn set_terms(&mut self, slot: usize, terms: Terms) -> Terms {
        if terms.is_some() {
            while self.terms.len() <= slot {
                push(&mut self.terms, None);
            }
        }
        self.terms.get_mut(slot).and_then(|place| std::mem::replace(place, terms))
    }

    /// When the record in a slot was written.
    pub(super) fn created(&self, slot: u32) -> Time {
        self.created[slot as usize]
    }

    /// The metadata of the record in a slot.
    #[inline]
    pub(super) fn terms(&self, slot: u32) -> Option<&Arc<LiveEntryMeta>> {
        self.terms.get(slot as usize)?.as_ref()
    }

    /// Takes the metadata of a record that leaves its slot.
    #[inline]
    pub(super) fn take_terms(&mut self, slot: u32) -> Terms {
        if self.terms.is_empty() { None } else { self.terms.get_mut(slot as usize)?.take() }
    }
}

/// Appends to a list that grows by an eighth, as the slots of the order.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(8));
    }
    list.push(item);
}
