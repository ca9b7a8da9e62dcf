//! Which keys were requested lately: two Bloom filters that replace one another.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The words of one filter: 32 KiB.
const WORDS: usize = 4096;
/// The keys that one filter takes; then 40 % of its bits are set.
const KEYS_MAX: u64 = 65_536;

/// Two generations of keys. Used without a lock.
pub(super) struct Seen {
    filters: [Box<[AtomicU64]>; 2],
    /// The filter of the newer generation.
    newer: AtomicUsize,
}

/// The generations that have a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) in_newer: bool,
    pub(super) in_older: bool,
}

impl Default for Seen {
    fn default() -> Self {
        let empty = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { filters: [empty(), empty()], newer: AtomicUsize::new(0) }
    }
}

impl Seen {
    /// Inserts the key into the newer generation. Returns which ones had it. Of a full generation, one in six
    /// of other keys counts as one that it has.
    pub(super) fn insert(&self, key: u64) -> Known {
        let newer = self.newer.load(Relaxed) % 2;
        let (filter, older) = (&self.filters[newer], &self.filters[1 - newer]);
        let mut in_newer = true;
        for (word, bit) in bits_of(key) {
            in_newer &= filter[word].fetch_or(bit, Relaxed) & bit != 0;
        }
        let in_older = bits_of(key).iter().all(|(word, bit)| older[*word].load(Relaxed) & bit != 0);
        Known { in_newer, in_older }
    }

    /// Whether a generation of this many keys is full.
    pub(super) fn is_full(&self, keys: u64) -> bool {
        keys >= KEYS_MAX
    }

    /// Forgets the older generation.
    pub(super) fn next_generation(&self) {
        let newer = self.newer.load(Relaxed) % 2;
        self.filters[1 - newer].iter().for_each(|word| word.store(0, Relaxed));
        self.newer.store(1 - newer, Relaxed);
    }
}

/// The word and the bit of a key, twice.
fn bits_of(key: u64) -> [(usize, u64); 2] {
    // A folded product: hashes that differ by a constant must not collide more than others.
    let product = u128::from(key ^ 0xD6E8_FEB8_6659_FD93) * 0xA076_1D64_78BD_642F;
    let mixed = (product >> 64) as u64 ^ product as u64;
    [mixed >> 40, mixed >> 16].map(|part| ((part >> 6) as usize % WORDS, 1 << (part & 63)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn key_is_known_for_two_generations() {
        let seen = Seen::default();
        let known = |in_newer, in_older| Known { in_newer, in_older };
        assert_eq!(seen.insert(key(1)), known(false, false));
        assert_eq!(seen.insert(key(1)), known(true, false));
        seen.next_generation();
        assert_eq!(seen.insert(key(1)), known(false, true));
        seen.next_generation();
        seen.next_generation();
        assert_eq!(seen.insert(key(1)), known(false, false));
    }

    #[test]
    fn few_strangers_are_taken_for_known() {
        let seen = Seen::default();
        for number in 0..KEYS_MAX {
            seen.insert(key(number));
        }
        let strangers = 1 << 40..(1 << 40) + 1000;
        let mistaken = strangers.filter(|number| seen.insert(key(*number)).in_newer).count();
        assert!(mistaken < 230, "{mistaken} of 1000");
    }
}
