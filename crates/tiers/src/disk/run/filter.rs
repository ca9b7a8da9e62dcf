//! Which rows a pack may have: a Bloom filter whose bits for one row lie in one
//! line of the processor's cache.
//!
//! Twelve bits a row, six of them set: of rows that are not there about one in a
//! hundred is taken for one that may be. It is made anew on opening and stands in
//! no file, so the hash may change from build to build.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

const BITS_A_ROW: usize = 12;
const WORDS: usize = 8;
const PROBES: u32 = 6;

/// The hash by which filters know a row.
pub(in crate::disk) fn hash(row: &[u8]) -> u64 {
    FixedState::with_seed(1).hash_one(row)
}

/// A set that may say yes where no is right.
pub(in crate::disk) struct Filter {
    lines: Box<[[u64; WORDS]]>,
}

impl Filter {
    /// A filter of the rows that have these hashes.
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

    /// Whether a row with this hash may be there.
    pub(in crate::disk) fn may_hold(&self, hash: u64) -> bool {
        let line = &self.lines[self.line(hash)];
        bits(hash).all(|(word, bit)| line[word] & bit != 0)
    }

    fn line(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }
}

/// The bits of a row in its line, from the lower half of its hash: the upper one chose the line.
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
    fn what_is_there_is_found_and_little_else() {
        let hashes = |range: std::ops::Range<u64>| range.map(|n| hash(&n.to_be_bytes()));
        for rows in [0, 1, 100, 20_000] {
            let filter = Filter::of(&hashes(0..rows).collect::<Vec<_>>());
            assert!(hashes(0..rows).all(|hash| filter.may_hold(hash)));
            let wrong = hashes(100_000..200_000).filter(|hash| filter.may_hold(*hash)).count();
            assert!(wrong < 2500, "{wrong} of 100,000 rows that are not there, {rows} that are");
        }
    }
}
