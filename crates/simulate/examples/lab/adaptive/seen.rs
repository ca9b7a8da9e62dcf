//! Which keys were requested lately: two Bloom filters that replace one another.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The words of one filter: 32 KiB.
const WORDS: usize = 4096;
/// The keys that one filter takes; then 40 % of its bits are set.
const KEYS_MAX: u32 = 65_536;

/// A set that forgets: it holds the last 65,536 keys at least, and twice as many at most. Used without a lock.
pub(super) struct Seen {
    filters: [Box<[AtomicU64]>; 2],
    /// The filter that takes new keys.
    newer: AtomicUsize,
    keys: AtomicU32,
}

impl Default for Seen {
    fn default() -> Self {
        let empty = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { filters: [empty(), empty()], newer: AtomicUsize::new(0), keys: AtomicU32::new(0) }
    }
}

impl Seen {
    /// Whether the key was inserted. One in six of other keys counts as inserted too.
    pub(super) fn contains(&self, key: u64) -> bool {
        self.filters.iter().any(|filter| bits_of(key).iter().all(|(word, bit)| filter[*word].load(Relaxed) & bit != 0))
    }

    pub(super) fn insert(&self, key: u64) {
        let newer = self.newer.load(Relaxed) % 2;
        let filter = &self.filters[newer];
        let mut is_new = false;
        for (word, bit) in bits_of(key) {
            is_new |= filter[word].fetch_or(bit, Relaxed) & bit == 0;
        }
        if is_new && self.keys.fetch_add(1, Relaxed) + 1 == KEYS_MAX {
            self.filters[1 - newer].iter().for_each(|word| word.store(0, Relaxed));
            self.newer.store(1 - newer, Relaxed);
            self.keys.store(0, Relaxed);
        }
    }
}

/// The word and the bit of a key, twice.
fn bits_of(key: u64) -> [(usize, u64); 2] {
    let mixed = key.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    [mixed >> 40, mixed >> 16].map(|part| ((part >> 6) as usize % WORDS, 1 << (part & 63)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_keys_are_known_and_old_ones_forgotten() {
        let seen = Seen::default();
        let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        assert!(!seen.contains(key(1)));
        (0..40_000).for_each(|n| seen.insert(key(n)));
        assert!((0..40_000).all(|n| seen.contains(key(n))));
        let strangers = (1 << 40..(1 << 40) + 10_000).filter(|n| seen.contains(key(*n))).count();
        assert!(strangers < 2_000, "{strangers} of 10000");
        (100_000..400_000).for_each(|n| seen.insert(key(n)));
        let old = (0..40_000).filter(|n| seen.contains(key(*n))).count();
        assert!(old < 14_000, "{old} of 40000");
    }
}
