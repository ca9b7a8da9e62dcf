//! How often keys were requested lately: a count-min sketch of four bits a counter (Cormode and Muthukrishnan,
//! Journal of Algorithms 2005), with conservative updates.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The words of the sketch: 128 KiB, of 16 counters each.
const WORDS: usize = 16_384;
/// Counts are below this.
pub(super) const COUNTS: usize = 16;
/// The lowest three bits of each counter.
const LOW: u64 = 0x7777_7777_7777_7777;

/// A count for each key, which is too high for a few of them. Used without a lock.
pub(super) struct Counts {
    words: Box<[AtomicU64]>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Counts {
    /// How often the key was counted, below [`COUNTS`].
    pub(super) fn get(&self, key: u64) -> usize {
        counters_of(key).map(|counter| self.counter(counter)).into_iter().fold(u64::MAX, u64::min) as usize
    }

    /// Counts the key once more. Returns how often it was counted before. Two threads at once may lose a count.
    pub(super) fn increment(&self, key: u64) -> usize {
        let count = self.get(key);
        if count + 1 < COUNTS {
            let lowest = |counter: &(usize, u32)| self.counter(*counter) == count as u64;
            for (word, shift) in counters_of(key).into_iter().filter(lowest) {
                self.words[word].fetch_add(1 << shift, Relaxed);
            }
        }
        count
    }

    /// Halves every count.
    pub(super) fn halve(&self) {
        for word in &self.words {
            word.store(word.load(Relaxed) >> 1 & LOW, Relaxed);
        }
    }

    fn counter(&self, (word, shift): (usize, u32)) -> u64 {
        self.words[word].load(Relaxed) >> shift & 15
    }
}

/// The word and the shift of each counter of a key.
fn counters_of(key: u64) -> [(usize, u32); 2] {
    // A folded product: hashes that differ by a constant must not collide more than others.
    let product = u128::from(key ^ 0xD6E8_FEB8_6659_FD93) * 0xA076_1D64_78BD_642F;
    let mixed = (product >> 64) as u64 ^ product as u64;
    [mixed >> 40, mixed >> 16].map(|part| ((part >> 4) as usize % WORDS, (part & 15) as u32 * 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn key_is_counted_up_to_the_most_and_halved() {
        let counts = Counts::default();
        assert_eq!((0..20).map(|_| counts.increment(key(1))).max(), Some(COUNTS - 1));
        assert_eq!((counts.get(key(1)), counts.get(key(2))), (COUNTS - 1, 0));
        counts.halve();
        assert_eq!(counts.get(key(1)), (COUNTS - 1) / 2);
    }

    #[test]
    fn few_keys_have_the_counts_of_others() {
        let counts = Counts::default();
        for number in 0..98_304 {
            counts.increment(key(number));
        }
        let new = 1 << 40..(1 << 40) + 1000;
        let mistaken = new.filter(|number| counts.get(key(*number)) > 0).count();
        assert!(mistaken < 320, "{mistaken} of 1000");
    }
}
