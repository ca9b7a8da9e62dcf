//! The use counts of keys that are no longer in the cache.

use super::USES_MAX;

/// Keys in a bucket.
const BUCKET: usize = 8;
/// The minimum number of remembered keys per entry of the cache.
const PER_ENTRY: u64 = 4;

/// Fingerprints of 12 bits with counts of 4 bits, in buckets of 8 ordered by recency: 2 bytes per key. One
/// key in 500 is mistaken for another.
///
/// A bucket is one number; its lanes of 16 bits are examined together. The lowest lane is the newest key.
pub(super) struct History {
    buckets: Vec<u128>,
    /// Whether a key was ever added.
    is_used: bool,
}

/// A number with `lane` in each lane.
const fn lanes(lane: u16) -> u128 {
    (u128::MAX / u16::MAX as u128) * lane as u128
}

const COUNTS: u128 = lanes(0x000f);
const HIGH_BITS: u128 = lanes(0x8000);
/// Added to a lane below `0x8000`, sets the high bit of a lane that is not zero.
const CARRY: u128 = lanes(0x7fff);

impl History {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0], is_used: false }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(0);
        self.is_used = false;
    }

    /// Grows to the size for a cache of `entries`, unless nothing was added yet. Existing counts stay.
    #[inline]
    pub(super) fn reserve(&mut self, entries: u64) {
        if self.is_used && ((self.buckets.len() * BUCKET) as u64) < entries * PER_ENTRY {
            self.grow(entries);
        }
    }

    #[cold]
    fn grow(&mut self, entries: u64) {
        while ((self.buckets.len() * BUCKET) as u64) < entries * PER_ENTRY {
            self.buckets.extend_from_within(..);
        }
    }

    /// Removes a key and returns its count; 0 for an unknown key.
    #[inline]
    pub(super) fn take(&mut self, hash: u64) -> u8 {
        if !self.is_used {
            return 0;
        }
        let (bucket, print) = self.place(hash);
        let differs = (*bucket ^ lanes(print << 4)) >> 4 & lanes(0x0fff);
        let found = !(differs + CARRY) & ((*bucket & COUNTS) + CARRY) & HIGH_BITS;
        if found == 0 {
            return 0;
        }
        let at = found.trailing_zeros() / 16 * 16;
        let uses = (*bucket >> at) as u8 & 0xf;
        *bucket &= !(0xffff << at);
        uses
    }

    /// Adds a key of a cache of `entries` with its count, and removes the oldest key of a full bucket.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, uses: u8, entries: u64) {
        if !self.is_used {
            self.is_used = true;
            self.grow(entries);
        }
        let (bucket, print) = self.place(hash);
        let free = !((*bucket & COUNTS) + CARRY) & HIGH_BITS;
        // The lanes up to the first free one, or to the last one, move by one.
        let at = free.trailing_zeros().min(127) / 16 * 16;
        let moved = (1_u128 << at) - 1;
        let stays = !(moved << 16 | 0xffff);
        let key = print << 4 | u16::from(uses.min(USES_MAX));
        *bucket = *bucket & stays | (*bucket & moved) << 16 | u128::from(key);
    }

    /// Halves all counts; keys with a count of one are removed.
    pub(super) fn halve(&mut self) {
        for bucket in &mut self.buckets {
            *bucket = *bucket & !COUNTS | (*bucket & COUNTS) >> 1 & lanes(0x0007);
        }
    }

    fn place(&mut self, hash: u64) -> (&mut u128, u16) {
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = self.buckets.len() - 1;
        (&mut self.buckets[(hash >> 24) as usize & mask], (hash >> 52) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of one bucket, the newest first.
    #[derive(Default)]
    struct Model(Vec<(u64, u8)>);

    impl Model {
        fn add(&mut self, hash: u64, uses: u8) {
            self.0.insert(0, (hash, uses));
            self.0.truncate(BUCKET);
        }

        fn take(&mut self, hash: u64) -> u8 {
            let at = self.0.iter().position(|(held, _)| *held == hash);
            at.map_or(0, |at| self.0.remove(at).1)
        }

        fn halve(&mut self) {
            self.0.iter_mut().for_each(|(_, uses)| *uses /= 2);
            self.0.retain(|(_, uses)| *uses > 0);
        }
    }

    #[test]
    fn bucket_remembers_its_newest_keys_with_their_counts() {
        let (mut history, mut model) = (History::new(), Model::default());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            // Distinct in their fingerprints: the upper bits after the multiplication.
            let hash = u64::from(random.u8(0..24)).wrapping_mul(0x0101_0101_0101_0101);
            match random.u8(0..10) {
                0 => {
                    history.halve();
                    model.halve();
                }
                1..5 => assert_eq!(history.take(hash), model.take(hash)),
                _ => {
                    let uses = random.u8(1..=15);
                    let _known = (history.take(hash), model.take(hash));
                    history.add(hash, uses, 0);
                    model.add(hash, uses);
                }
            }
        }
    }
}
