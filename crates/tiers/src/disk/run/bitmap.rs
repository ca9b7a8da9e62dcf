//! A bitmap with one bit for each row of a sorted run.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits that are set one at a time, by many threads.
#[derive(Debug)]
pub(in crate::disk) struct Bitmap {
    words: Box<[AtomicU64]>,
    count: AtomicU64,
}

impl Bitmap {
    /// Creates a bitmap of `bits` bits, none of them set.
    pub(in crate::disk) fn new(bits: usize) -> Self {
        let words = (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, count: AtomicU64::new(0) }
    }

    /// Sets the bit at `at`.
    pub(in crate::disk) fn set(&self, at: u32) {
        let bit = 1 << (at % 64);
        if let Some(word) = self.words.get(at as usize / 64)
            && !self.has(at)
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of bits that are set.
    pub(in crate::disk) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns whether the bit at `at` is set.
    pub(in crate::disk) fn has(&self, at: u32) -> bool {
        self.words
            .get(at as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (at % 64)) != 0)
    }
}
