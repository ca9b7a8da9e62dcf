//! A Bloom filter of the rows of a sorted run. The bits of one row lie in one cache line.
//!
//! The filter has twelve bits a row, and a row sets six of them. About one in a hundred absent rows
//! is a false positive. The filter is built when a run is opened. Only a snapshot stores it, with a
//! fingerprint of the hash, so the hash may change between builds.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::disk::row::ROW_LEN_MAX;
use crate::disk::snapshot::words::{Reader, Writer};

const BITS_A_ROW: usize = 12;
const WORDS: usize = 8;
const PROBES: u32 = 6;

/// The hash of a row in filters.
pub(in crate::disk) fn hash(row: &[u8]) -> u64 {
    FixedState::with_seed(1).hash_one(row)
}

/// Tells whether this build hashes rows as another one did: a hash of the hashes of one row of each
/// length.
pub(in crate::disk) fn fingerprint() -> u64 {
    let row: [u8; ROW_LEN_MAX] = std::array::from_fn(|at| at as u8);
    let hashes = (0..=ROW_LEN_MAX).flat_map(|len| hash(&row[..len]).to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&hashes.collect::<Vec<u8>>())
}

/// A set of rows that may have false positives.
pub(in crate::disk) struct Filter {
    lines: Box<[[u64; WORDS]]>,
}

impl Filter {
    /// Builds a filter of the rows with these hashes.
    pub(in crate::disk) fn of(hashes: &[u64]) -> Self {
        let lines = (hashes.len() * BITS_A_ROW).div_ceil(WORDS * 64).max(1);
        let mut filter = Self { lines: vec![[0; WORDS]; lines].into() };
        for hash in hashes {
            let line = filter.line(*hash);
            for (word, bit) in bits(*hash) {
                filter.lines[line][word] |= bit;
            }
        }
        filter
    }

    /// Writes the filter to a snapshot.
    pub(in crate::disk) fn encode(&self, to: &mut Writer) {
        to.word(self.lines.len() as u64);
        self.lines.iter().flatten().for_each(|word| to.word(*word));
    }

    /// Reads a filter from a snapshot. `None` if it is not one.
    pub(in crate::disk) fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let count = from.word()?;
        let mut lines = Vec::new();
        for _ in 0..count {
            let mut line = [0; WORDS];
            for word in &mut line {
                *word = from.word()?;
            }
            lines.push(line);
        }
        (!lines.is_empty()).then(|| Self { lines: lines.into() })
    }

    /// Returns whether a row with this hash may be in the set.
    pub(in crate::disk) fn may_hold(&self, hash: u64) -> bool {
        let line = &self.lines[self.line(hash)];
        bits(hash).all(|(word, bit)| line[word] & bit != 0)
    }

    fn line(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }
}

/// The bits of a row in its cache line, from the lower half of its hash. The upper half chooses the
/// line.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| {
        let at = (spread >> (10 + 9 * probe)) as usize % (WORDS * 64);
        (at / 64, 1 << (at % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_rows_are_found_with_few_false_positives() {
        let hashes = |range: std::ops::Range<u64>| range.map(|n| hash(&n.to_be_bytes()));
        for rows in [0, 1, 100, 20_000] {
            let filter = Filter::of(&hashes(0..rows).collect::<Vec<_>>());
            assert!(hashes(0..rows).all(|hash| filter.may_hold(hash)));
            let wrong = hashes(100_000..200_000).filter(|hash| filter.may_hold(*hash)).count();
            assert!(wrong < 2500, "{wrong} of 100,000 rows that are not there, {rows} that are");
        }
    }
}
