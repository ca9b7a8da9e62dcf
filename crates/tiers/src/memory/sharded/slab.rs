//! Nodes by slot number, with free slots used again.

/// Slots that are added at least when there is none left.
const GROWTH_MIN: usize = 16;

/// A growing array of nodes. A slot number stays valid until its node is removed.
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Nodes that are there.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots, free ones included: every slot number is below.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Stores `node`; `None` where all 2^32 - 1 slots are taken.
    pub(super) fn insert(&mut self, node: T) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(node);
            return Some(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot < u32::MAX)?;
        if self.slots.len() == self.slots.capacity() {
            // An eighth at a time: doubling would keep up to as much memory again unused.
            self.slots.reserve_exact((self.slots.len() / 8).max(GROWTH_MIN));
        }
        self.slots.push(Some(node));
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let node = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0_u32..).zip(&self.slots).filter_map(|(slot, node)| Some((slot, node.as_ref()?)))
    }

    /// Takes all nodes out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.free = Vec::new();
        std::mem::take(&mut self.slots).into_iter().flatten()
    }
}
