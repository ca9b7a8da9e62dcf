//! The hash table of a shard: from hashes to slot numbers.
//!
//! A bucket is one cache line with room for twelve slot numbers, a byte of each hash, and the number of entries
//! that it had no room for. So a look-up reads one line here, and the node of the entry next. The layout is
//! that of F14 (Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019).

/// Slot numbers in a bucket.
const ROOM: usize = 12;
/// Entries a bucket, in the mean, above which the table grows.
const FILL: usize = 10;
/// Not a slot number.
const NONE: u32 = u32::MAX;

/// A number with a one in each byte.
const ONES: u64 = u64::MAX / 255;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    /// A byte of the hash of each of the first eight entries; zero where there is none.
    low: u64,
    /// The same of the last four.
    high: u32,
    /// Number of entries that belong here, or in an earlier bucket, and are in a later one.
    passed: u32,
    /// [`NONE`] where there is no entry.
    slots: [u32; ROOM],
}

impl Bucket {
    const EMPTY: Self = Self { low: 0, high: 0, passed: 0, slots: [NONE; ROOM] };
}

/// The places of a bucket with some byte, in one number.
struct Matches(u64);

impl Bucket {
    /// The places with this byte. After the first one, a place whose byte is another may be among them.
    #[inline]
    fn matches(&self, tag: u8) -> Matches {
        let tags = ONES * u64::from(tag);
        // The bytes without an entry differ from every tag.
        let (low, high) = (self.low ^ tags, u64::from(self.high) ^ tags | u64::from(u32::MAX) << 32);
        let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & (ONES << 7);
        Matches(zero(low) >> 7 | zero(high) >> 6)
    }

    #[inline]
    fn free(&self) -> Option<usize> {
        self.matches(0).next()
    }

    /// The place of a slot number.
    #[inline]
    fn place(&self, tag: u8, slot: u32) -> Option<usize> {
        self.matches(tag).find(|place| self.slots[*place] == slot)
    }

    fn tag(&self, place: usize) -> u8 {
        if place < 8 { (self.low >> (place * 8)) as u8 } else { (self.high >> (place % 8 * 8)) as u8 }
    }

    #[inline]
    fn set(&mut self, place: usize, tag: u8, slot: u32) {
        let shift = place % 8 * 8;
        if place < 8 {
            self.low = self.low & !(0xff << shift) | u64::from(tag) << shift;
        } else {
            self.high = self.high & !(0xff << shift) | u32::from(tag) << shift;
        }
        self.slots[place] = slot;
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        // Bit 0 of a byte is of one of the first eight places, bit 1 of one of the others.
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit >> 3 | (bit & 1) << 3)
    }
}

/// A set of slot numbers, found by the hashes of their entries.
#[derive(Default)]
pub(super) struct SlotTable {
    buckets: Vec<Bucket>,
    len: usize,
}

impl SlotTable {
    /// Finds an entry with this hash: calls `found` with slot numbers until it returns something. Most of the
    /// entries that it is asked about have the hash.
    #[inline]
    pub(super) fn find<R>(&self, hash: u32, mut found: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let home = self.home(hash);
        let bucket = self.buckets.get(home)?;
        for place in bucket.matches(tag(hash)) {
            if let Some(found) = found(*bucket.slots.get(place)?) {
                return Some(found);
            }
        }
        if bucket.passed == 0 {
            return None;
        }
        let mut last = None;
        self.find_after(home, hash, &mut |slot| {
            last = found(slot);
            last.is_some()
        });
        last
    }

    /// As [`find`](Self::find), in the buckets after the first.
    #[cold]
    #[inline(never)]
    fn find_after(&self, mut at: usize, hash: u32, found: &mut dyn FnMut(u32) -> bool) {
        // A table has free places, but each of a few buckets may have passed an entry on.
        for _ in 1..self.buckets.len() {
            at = self.after(at);
            let bucket = &self.buckets[at];
            if bucket.matches(tag(hash)).any(|place| found(bucket.slots[place])) || bucket.passed == 0 {
                return;
            }
        }
    }

    /// Adds an entry that is not there. `hash_of` returns the hash of each other entry.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        if self.len >= self.buckets.len() * FILL {
            self.grow(hash_of);
        }
        self.len += 1;
        self.place(hash, slot);
    }

    /// Removes an entry, if it is there.
    #[inline]
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let home = self.home(hash);
        let Some(bucket) = self.buckets.get_mut(home) else { return };
        match bucket.place(tag(hash), slot) {
            Some(place) => {
                bucket.set(place, 0, NONE);
                self.len -= 1;
            }
            None => self.remove_after(home, hash, slot),
        }
    }

    /// As [`remove`](Self::remove), in the buckets after the first.
    #[cold]
    fn remove_after(&mut self, home: usize, hash: u32, slot: u32) {
        let mut at = home;
        for passed in 1..self.buckets.len() {
            at = self.after(at);
            let bucket = &mut self.buckets[at];
            if let Some(place) = bucket.place(tag(hash), slot) {
                bucket.set(place, 0, NONE);
                self.len -= 1;
                return self.unpass(home, passed);
            }
        }
    }

    /// An entry left that `count` buckets from `at` on had passed on.
    fn unpass(&mut self, mut at: usize, count: usize) {
        for _ in 0..count {
            self.buckets[at].passed -= 1;
            at = self.after(at);
        }
    }

    #[inline]
    fn place(&mut self, hash: u32, slot: u32) {
        let home = self.home(hash);
        let bucket = &mut self.buckets[home];
        match bucket.free() {
            Some(place) => bucket.set(place, tag(hash), slot),
            None => self.place_after(home, hash, slot),
        }
    }

    /// As [`place`](Self::place), in the buckets after the first.
    #[cold]
    fn place_after(&mut self, mut at: usize, hash: u32, slot: u32) {
        loop {
            self.buckets[at].passed += 1;
            at = self.after(at);
            let bucket = &mut self.buckets[at];
            if let Some(place) = bucket.free() {
                return bucket.set(place, tag(hash), slot);
            }
        }
    }

    #[cold]
    fn grow(&mut self, hash_of: impl Fn(u32) -> u32) {
        // By a half, so that a table is never much larger than its entries.
        let count = self.buckets.len() + self.buckets.len() / 2 + 1;
        let former = std::mem::replace(&mut self.buckets, vec![Bucket::EMPTY; count]);
        for bucket in &former {
            for place in (0..ROOM).filter(|place| bucket.tag(*place) != 0) {
                let slot = bucket.slots[place];
                self.place(hash_of(slot), slot);
            }
        }
    }

    /// The bucket that an entry belongs to. Uses the upper bits of the hash, and [`tag`] the lower ones.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

/// A byte of a hash, not zero.
#[inline]
fn tag(hash: u32) -> u8 {
    (hash as u8).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn bucket_takes_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    /// Operations with these hashes, beside a map.
    fn compare(steps: u32, mut hash_of: impl FnMut(&mut fastrand::Rng) -> u32) {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut table, mut hashes) = (SlotTable::default(), HashMap::new());
        for step in 0..steps {
            if hashes.len() < 20 || hashes.len() < 3_000 && random.u8(0..100) < 52 {
                let hash = hash_of(&mut random);
                table.insert(hash, step, |slot| hashes[&slot]);
                hashes.insert(step, hash);
            } else {
                let nth = random.usize(0..hashes.len());
                let (slot, hash) = hashes.iter().nth(nth).map(|(slot, hash)| (*slot, *hash)).unwrap();
                table.remove(hash, slot);
                hashes.remove(&slot);
                assert_eq!(table.find(hash, |found| (found == slot).then_some(())), None);
            }
            if step % 500 == 0 {
                for (slot, hash) in &hashes {
                    assert_eq!(table.find(*hash, |found| (found == *slot).then_some(found)), Some(*slot));
                }
                assert_eq!(table.len, hashes.len());
            }
        }
        hashes.iter().for_each(|(slot, hash)| table.remove(*hash, *slot));
        assert!(table.buckets.iter().all(|bucket| (bucket.low, bucket.high, bucket.passed) == (0, 0, 0)));
    }

    #[test]
    fn table_finds_what_a_map_holds() {
        compare(60_000, |random| random.u32(..));
    }

    #[test]
    fn equal_and_close_hashes_are_told_apart_by_their_slots() {
        compare(20_000, |random| random.u32(0..3) << 31 | random.u32(0..300));
        compare(3_000, |_| u32::MAX);
    }

    #[test]
    fn look_up_of_an_absent_hash_asks_about_few_entries() {
        let mut random = fastrand::Rng::with_seed(9);
        let mut table = SlotTable::default();
        let hashes: Vec<u32> = (0..50_000).map(|_| random.u32(..)).collect();
        for slot in 0..50_000 {
            table.insert(hashes[slot as usize], slot, |slot| hashes[slot as usize]);
        }
        let mut asked = 0;
        for _ in 0..50_000 {
            table.find(random.u32(..), |_| {
                asked += 1;
                None::<()>
            });
        }
        assert!(asked < 5_000, "{asked} of 50,000");
    }
}
