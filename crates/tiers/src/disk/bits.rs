//! A bit for each row of a pack.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits that are set one by one and cleared together.
#[derive(Debug)]
pub(super) struct Bits(Box<[AtomicU64]>);

impl Bits {
    /// So many, none of them set.
    pub(super) fn new(bits: usize) -> Self {
        Self((0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets one.
    pub(super) fn set(&self, at: u32) {
        if let Some(word) = self.0.get(at as usize / 64)
            && !self.has(at)
        {
            word.fetch_or(1 << (at % 64), Ordering::Relaxed);
        }
    }

    /// Whether one is set.
    pub(super) fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (at % 64)) != 0)
    }

    /// Sets none.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}
