//! A slab: nodes by slot number. The shard hands out the numbers.

/// The number of slots in a chunk, a power of two.
const CHUNK: usize = 128;

/// A growing set of nodes, in chunks. No node moves while the slab grows, which happens under the lock of a
/// shard.
pub(super) struct Slab<T> {
    chunks: Vec<Box<Chunk<T>>>,
}

/// Slots that begin at a cache line, so that a node of 64 bytes takes one line.
#[repr(align(64))]
struct Chunk<T>([Option<T>; CHUNK]);

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.0[slot % CHUNK].as_ref()
    }

    /// Takes the node out of a slot.
    #[inline]
    pub(super) fn take(&mut self, slot: u32) -> Option<T> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?.0[slot % CHUNK].take()
    }

    /// The place of a slot. Grows by a chunk for the first slot of the next one.
    #[inline]
    pub(super) fn place(&mut self, slot: u32) -> Option<&mut Option<T>> {
        let slot = slot as usize;
        if slot / CHUNK == self.chunks.len() {
            self.grow();
        }
        Some(&mut self.chunks.get_mut(slot / CHUNK)?.0[slot % CHUNK])
    }

    #[cold]
    fn grow(&mut self) {
        self.chunks.push(Box::new(Chunk([const { None }; CHUNK])));
    }
}
