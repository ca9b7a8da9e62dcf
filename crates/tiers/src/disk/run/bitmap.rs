//! A bit for each row of a pack.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bitmap that are set one by one.
#[derive(Debug)]
pub(in crate::disk) struct Bitmap {
    words: Box<[AtomicU64]>,
    count: AtomicU64,
}

impl Bitmap {
    /// So many, none of them set.
    pub(in crate::disk) fn new(bits: usize) -> Self {
        let words = (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, count: AtomicU64::new(0) }
    }

    /// Sets one.
    pub(in crate::disk) fn set(&self, at: u32) {
        let bit = 1 << (at % 64);
        if let Some(word) = self.words.get(at as usize / 64)
            && !self.has(at)
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many are set.
    pub(in crate::disk) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether one is set.
    pub(in crate::disk) fn has(&self, at: u32) -> bool {
        self.words
            .get(at as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (at % 64)) != 0)
    }
}
