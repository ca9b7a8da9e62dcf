//! Random eviction.

use super::Uses;

/// Evicts each entry with the same probability.
pub(super) struct Random {
    /// Slots in use, unordered.
    slots: Vec<u32>,
    /// The index in `slots` of each slot.
    places: Vec<u32>,
    /// State of xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
    state: u64,
}

impl Random {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), places: Vec::new(), state: 0x2545_f491_4f6c_dd1d }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, 0);
        }
        self.places[slot as usize] = self.slots.len() as u32;
        self.slots.push(slot);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let place = self.places[slot as usize];
        self.slots.swap_remove(place as usize);
        if let Some(moved) = self.slots.get(place as usize) {
            self.places[*moved as usize] = place;
        }
    }

    pub(super) fn victim(&mut self, keep: Option<u32>) -> Option<u32> {
        let place = self.below(self.slots.len() as u64)?;
        let slot = match self.slots[place] {
            slot if Some(slot) == keep => {
                let other = self.other(place)?;
                self.slots[other]
            }
            slot => slot,
        };
        self.remove(slot);
        Some(slot)
    }

    /// A random index other than `place`.
    fn other(&mut self, place: usize) -> Option<usize> {
        let step = self.below(self.slots.len() as u64 - 1)? + 1;
        Some((place + step) % self.slots.len())
    }

    /// A random number below `count`.
    fn below(&mut self, count: u64) -> Option<usize> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (count > 0).then(|| (((self.state >> 32) * count) >> 32) as usize)
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    pub(super) fn hottest(&self, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let mut slots = self.slots.clone();
        slots.sort_by_key(|slot| std::cmp::Reverse(uses.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
