//! A slab: nodes by slot number, with reuse of free slots.

/// The number of slots in a chunk, a power of two.
const CHUNK: usize = 128;

/// A growing set of nodes, in chunks. No node moves while the slab grows, which happens under the lock of a
/// shard. A slot number stays valid until its node is removed.
pub(super) struct Slab<T> {
    chunks: Vec<Box<Chunk<T>>>,
    free: Vec<u32>,
    slots: u32,
}

/// Slots that begin at a cache line, so that a node of 64 bytes takes one line.
#[repr(align(64))]
struct Chunk<T>([Option<T>; CHUNK]);

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), slots: 0 }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.0[slot % CHUNK].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.place(slot)?.as_mut()
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    /// The number of slots, free ones included; every slot number is lower.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// Stores `node`; `None` if all 2^32 - 1 slots are in use.
    #[inline]
    pub(super) fn insert(&mut self, node: T) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.new_slot()?,
        };
        *self.place(slot)? = Some(node);
        Some(slot)
    }

    /// A slot that was never used, which is empty.
    #[cold]
    fn new_slot(&mut self) -> Option<u32> {
        let slot = self.slots;
        if slot == u32::MAX {
            return None;
        }
        if (slot as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Box::new(Chunk([const { None }; CHUNK])));
        }
        self.slots += 1;
        Some(slot)
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let node = self.place(slot)?.take()?;
        self.free.push(slot);
        Some(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0_u32..)
            .zip(self.chunks.iter().flat_map(|chunk| &chunk.0))
            .filter_map(|(slot, node)| Some((slot, node.as_ref()?)))
    }

    #[inline]
    fn place(&mut self, slot: u32) -> Option<&mut Option<T>> {
        let slot = slot as usize;
        Some(&mut self.chunks.get_mut(slot / CHUNK)?.0[slot % CHUNK])
    }
}
