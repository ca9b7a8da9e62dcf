//! What an order knows of the entries of a shard, by slot number.

use larder_core::memory::ReloadCost;

/// No slot: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// An entry as an order sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OrderEntry {
    /// Half of the hash of its key, well mixed in all bits.
    pub(crate) hash: u32,
    /// Its weight in the budget.
    pub(crate) weight: u32,
    /// What it takes to have it again. Only `Policy::CostAware` asks.
    pub(crate) cost: ReloadCost,
}

/// An entry with its place in a list: 24 bytes.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The neighbour towards the front.
    pub(super) prev: u32,
    /// The neighbour towards the back.
    pub(super) next: u32,
    pub(super) hash: u32,
    pub(super) weight: u32,
    pub(super) cost: ReloadCost,
    /// The epoch in which the frequency was last halved.
    pub(super) epoch: u16,
    /// The list that the slot is in.
    pub(super) list: u8,
    /// Uses counted by the policy.
    pub(super) frequency: u8,
}

/// The slots of a shard. What a slot says of an entry stays there until the next entry takes the slot.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
}

impl Slots {
    #[inline]
    pub(super) fn enter(&mut self, slot: u32, entry: OrderEntry) {
        let OrderEntry { hash, weight, cost } = entry;
        let entered =
            Slot { prev: NONE, next: NONE, hash, weight, cost, epoch: 0, list: u8::MAX, frequency: 0 };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = entered,
            None => self.extend(slot as usize, entered),
        }
    }

    #[cold]
    fn extend(&mut self, index: usize, entered: Slot) {
        if index >= self.slots.capacity() {
            // By an eighth, not by half: the slots are a third of what an entry takes.
            let len = self.slots.len();
            self.slots.reserve_exact(index + 1 - len + (len / 8).max(8));
        }
        self.slots.resize(index + 1, entered);
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn hash(&self, slot: u32) -> u64 {
        u64::from(self.get(slot).hash)
    }

    #[inline]
    pub(super) fn weight(&self, slot: u32) -> u32 {
        self.get(slot).weight
    }

    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
    }
}
