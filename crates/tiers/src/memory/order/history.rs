//! The use counts of keys that are no longer in the cache.

use super::USES_MAX;

/// Keys in a bucket.
const BUCKET: usize = 8;
/// The minimum number of remembered keys per entry of the cache.
const PER_ENTRY: u64 = 4;

/// Fingerprints of 12 bits with counts of 4 bits, in buckets of 8 ordered by recency: 2 bytes per key. One
/// key in 500 is mistaken for another.
///
/// A bucket is two numbers, first that of its newer keys. The lanes of 16 bits of a number are examined together;
/// the lowest lane is the newest key.
pub(super) struct History {
    buckets: Vec<[u64; 2]>,
    /// Whether a key was ever added.
    is_used: bool,
}

/// A number with `lane` in each lane.
const fn lanes(lane: u16) -> u64 {
    (u64::MAX / u16::MAX as u64) * lane as u64
}

const COUNTS: u64 = lanes(0x000f);
const HIGH_BITS: u64 = lanes(0x8000);
/// Added to a lane below `0x8000`, sets the high bit of a lane that is not zero.
const CARRY: u64 = lanes(0x7fff);

/// The high bits of the lanes without a key.
#[inline]
fn free(keys: u64) -> u64 {
    !((keys & COUNTS) + CARRY) & HIGH_BITS
}

/// The keys with one more as the newest, in place of the first free lane, or of the oldest key.
#[inline]
fn pushed(keys: u64, key: u64) -> u64 {
    // The lanes up to that one move by one.
    let at = free(keys).trailing_zeros().min(63) / 16 * 16;
    let moved = (1_u64 << at) - 1;
    keys & !(moved << 16 | 0xffff) | (keys & moved) << 16 | key
}

impl History {
    pub(super) fn new() -> Self {
        Self { buckets: vec![[0; 2]], is_used: false }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill([0; 2]);
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
        let prints = lanes(0x0010).wrapping_mul(print);
        for keys in bucket {
            let differs = (*keys ^ prints) >> 4 & lanes(0x0fff);
            let found = !(differs + CARRY) & ((*keys & COUNTS) + CARRY) & HIGH_BITS;
            if found != 0 {
                let at = found.trailing_zeros() / 16 * 16;
                let uses = (*keys >> at) as u8 & 0xf;
                *keys &= !(0xffff << at);
                return uses;
            }
        }
        0
    }

    /// Adds a key of a cache of `entries` with its count, and removes the oldest key of a full bucket.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, uses: u8, entries: u64) {
        if !self.is_used {
            self.is_used = true;
            self.grow(entries);
        }
        let ([newer, older], print) = self.place(hash);
        if free(*newer) == 0 {
            *older = pushed(*older, *newer >> 48);
        }
        *newer = pushed(*newer, print << 4 | u64::from(uses.min(USES_MAX)));
    }

    /// Halves all counts; keys with a count of one are removed.
    pub(super) fn halve(&mut self) {
        for keys in self.buckets.as_flattened_mut() {
            *keys = *keys & !COUNTS | (*keys & COUNTS) >> 1 & lanes(0x0007);
        }
    }

    #[inline]
    fn place(&mut self, hash: u64) -> (&mut [u64; 2], u64) {
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = self.buckets.len() - 1;
        (&mut self.buckets[(hash >> 24) as usize & mask], hash >> 52)
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
