//! Doubly linked lists over slot numbers.

use super::slots::{NONE, Slot, Slots};

#[derive(Clone, Copy)]
struct Ends {
    front: u32,
    back: u32,
    len: u32,
    weight: u64,
}

impl Ends {
    const EMPTY: Self = Self { front: NONE, back: NONE, len: 0, weight: 0 };
}

/// `N` lists; each slot is in at most one of them.
pub(super) struct Lists<const N: usize> {
    ends: [Ends; N],
}

impl<const N: usize> Lists<N> {
    pub(super) fn new() -> Self {
        Self { ends: [Ends::EMPTY; N] }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn front(&self, list: usize) -> Option<u32> {
        some(self.ends[list].front)
    }

    pub(super) fn back(&self, list: usize) -> Option<u32> {
        some(self.ends[list].back)
    }

    /// The slot nearest to the back that is not `keep`.
    pub(super) fn last(&self, slots: &Slots, list: usize, keep: Option<u32>) -> Option<u32> {
        let last = self.back(list)?;
        if Some(last) == keep { before(slots, last) } else { Some(last) }
    }

    /// The slot at the back, or [`NONE`].
    #[inline]
    pub(super) fn end(&self, list: usize) -> u32 {
        self.ends[list].back
    }

    pub(super) fn len(&self, list: usize) -> u32 {
        self.ends[list].len
    }

    pub(super) fn weight(&self, list: usize) -> u64 {
        self.ends[list].weight
    }

    /// Changes the weight of `slot`.
    pub(super) fn reweigh(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        let slot = slots.get_mut(slot);
        let ends = &mut self.ends[usize::from(slot.list)];
        ends.weight = ends.weight - u64::from(slot.weight) + u64::from(weight);
        slot.weight = weight;
    }

    #[inline]
    pub(super) fn push_front(&mut self, slots: &mut Slots, list: usize, slot: u32) {
        let ends = &mut self.ends[list];
        let former = std::mem::replace(&mut ends.front, slot);
        let entry = slots.get_mut(slot);
        (entry.prev, entry.next, entry.list) = (NONE, former, list as u8);
        ends.len += 1;
        ends.weight += u64::from(entry.weight);
        match former {
            NONE => ends.back = slot,
            _ => slots.get_mut(former).prev = slot,
        }
    }

    #[inline]
    pub(super) fn unlink(&mut self, slots: &mut Slots, slot: u32) {
        let Slot { prev, next, list, weight, .. } = *slots.get(slot);
        let ends = &mut self.ends[usize::from(list)];
        ends.len -= 1;
        ends.weight -= u64::from(weight);
        match prev {
            NONE => ends.front = next,
            _ => slots.get_mut(prev).next = next,
        }
        match next {
            NONE => ends.back = prev,
            _ => slots.get_mut(next).prev = prev,
        }
    }

    /// Moves `slot` to the front of `list`, which may be its present list.
    pub(super) fn move_to_front(&mut self, slots: &mut Slots, list: usize, slot: u32) {
        self.unlink(slots, slot);
        self.push_front(slots, list, slot);
    }

    /// The slots of `list` from the front.
    pub(super) fn iter<'a>(&self, slots: &'a Slots, list: usize) -> impl Iterator<Item = u32> + use<'a, N> {
        std::iter::successors(self.front(list), |slot| some(slots.get(*slot).next))
    }
}

/// The slot before `slot`, nearer to the front.
pub(super) fn before(slots: &Slots, slot: u32) -> Option<u32> {
    some(slots.get(slot).prev)
}

fn some(slot: u32) -> Option<u32> {
    (slot != NONE).then_some(slot)
}
