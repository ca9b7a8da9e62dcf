//! The use counts of keys that are no longer in the cache.

use super::USES_MAX;

/// Keys in a bucket.
const BUCKET: usize = 8;
/// The minimum number of remembered keys per entry of the cache.
const PER_ENTRY: u64 = 4;

/// Fingerprints of 12 bits with counts of 4 bits, in buckets of 8 ordered by recency: 2 bytes per key. One
/// key in 500 is mistaken for another.
pub(super) struct History {
    buckets: Vec<[u16; BUCKET]>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { buckets: vec![[0; BUCKET]] }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill([0; BUCKET]);
    }

    /// Grows to the size for a cache of `entries`. Existing counts stay.
    pub(super) fn reserve(&mut self, entries: u64) {
        while ((self.buckets.len() * BUCKET) as u64) < entries * PER_ENTRY {
            self.buckets.extend_from_within(..);
        }
    }

    /// Removes a key and returns its count; 0 for an unknown key.
    pub(super) fn take(&mut self, hash: u64) -> u8 {
        let (bucket, print) = self.place(hash);
        match bucket.iter_mut().find(|key| **key >> 4 == print && **key & 0xf > 0) {
            Some(key) => {
                let uses = (*key & 0xf) as u8;
                *key = 0;
                uses
            }
            None => 0,
        }
    }

    /// Adds a key with its count, and removes the oldest key of a full bucket.
    pub(super) fn add(&mut self, hash: u64, uses: u8) {
        let (bucket, print) = self.place(hash);
        let free = bucket.iter().position(|key| key & 0xf == 0).unwrap_or(BUCKET - 1);
        bucket[..=free].rotate_right(1);
        bucket[0] = print << 4 | u16::from(uses.min(USES_MAX));
    }

    /// Halves all counts; keys with a count of one are removed.
    pub(super) fn halve(&mut self) {
        for key in self.buckets.iter_mut().flatten() {
            *key = *key & 0xfff0 | (*key & 0xf) >> 1;
        }
    }

    fn place(&mut self, hash: u64) -> (&mut [u16; BUCKET], u16) {
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = self.buckets.len() - 1;
        (&mut self.buckets[(hash >> 24) as usize & mask], (hash >> 52) as u16)
    }
}
