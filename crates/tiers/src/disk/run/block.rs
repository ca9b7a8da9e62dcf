//! Rows one after another, under a sum: what a pack is made of.
//!
//! ```text
//! 4   bytes of the rows that follow; 0 in the last block, which says that the pack is whole
//! 8   XXH3-64 of them, and in the last block of how many rows the pack has
//!     (8 bytes), with the number of the pack plus the offset of the block as seed
//! rows: 1 length of the row key, 4 length of the value, the row key, the value
//! ```

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the rows.
pub(in crate::disk) const HEAD_LEN: usize = 12;
const ROW_HEAD_LEN: usize = 5;

/// Begins a block.
pub(in crate::disk) fn begin(block: &mut Vec<u8>) {
    block.clear();
    block.resize(HEAD_LEN, 0);
}

/// Adds a row; false when it is too long to be one.
pub(in crate::disk) fn push(block: &mut Vec<u8>, row: &[u8], value: &[u8]) -> bool {
    let (Ok(row_len), Ok(value_len)) = (u8::try_from(row.len()), u32::try_from(value.len())) else {
        return false;
    };
    block.push(row_len);
    block.extend_from_slice(&value_len.to_le_bytes());
    block.extend_from_slice(row);
    block.extend_from_slice(value);
    true
}

/// What a row takes.
pub(in crate::disk) fn row_len(row: &[u8], value: &[u8]) -> u64 {
    (ROW_HEAD_LEN + row.len() + value.len()) as u64
}

/// Finishes a block that will lie at `offset` of pack `number`.
pub(in crate::disk) fn seal(block: &mut [u8], number: u64, offset: u64) {
    let (head, rows) = block.split_at_mut(HEAD_LEN);
    head[..4].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&xxh3_64_with_seed(rows, number.wrapping_add(offset)).to_le_bytes());
}

/// The last block of pack `number`, which has so many rows.
pub(in crate::disk) fn last(rows: u64, number: u64, offset: u64) -> [u8; HEAD_LEN] {
    let mut block = [0; HEAD_LEN];
    block[4..].copy_from_slice(&sum_of_last(rows, number, offset).to_le_bytes());
    block
}

fn sum_of_last(rows: u64, number: u64, offset: u64) -> u64 {
    xxh3_64_with_seed(&rows.to_le_bytes(), number.wrapping_add(offset))
}

/// The head of a block.
#[derive(Clone, Copy, Debug)]
pub(in crate::disk) struct Head {
    /// Bytes of the rows.
    pub(in crate::disk) len: u32,
    sum: u64,
}

impl Head {
    /// Reads a head.
    pub(in crate::disk) fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let mut len = [0; 4];
        let mut sum = [0; 8];
        len.copy_from_slice(&bytes[..4]);
        sum.copy_from_slice(&bytes[4..]);
        Self { len: u32::from_le_bytes(len), sum: u64::from_le_bytes(sum) }
    }

    /// Whether this is the end of a pack of so many rows.
    pub(in crate::disk) fn ends(&self, rows: u64, number: u64, offset: u64) -> bool {
        self.len == 0 && self.sum == sum_of_last(rows, number, offset)
    }

    /// Whether these are the rows.
    pub(in crate::disk) fn fits(&self, rows: &[u8], number: u64, offset: u64) -> bool {
        xxh3_64_with_seed(rows, number.wrapping_add(offset)) == self.sum
    }
}

/// The rows of a block, with where each of them ends. A block whose rows do not
/// end where it does ends early.
pub(in crate::disk) struct Rows<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rows<'a> {
    /// Reads rows from the one at `at` on.
    pub(in crate::disk) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next row begins.
    pub(in crate::disk) fn at(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let (head, rest) = rest.split_first_chunk::<ROW_HEAD_LEN>()?;
        let [row_len, len @ ..] = *head;
        let (row, rest) = rest.split_at_checked(usize::from(row_len))?;
        let value = rest.get(..u32::from_le_bytes(len) as usize)?;
        self.at += ROW_HEAD_LEN + row.len() + value.len();
        Some((row, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back() {
        let mut block = Vec::new();
        begin(&mut block);
        let rows: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b""), (b"", &[7; 3000])];
        rows.iter().for_each(|(row, value)| assert!(push(&mut block, row, value)));
        assert!(!push(&mut block, &[0; 256], b""), "no key of a row is as long");
        seal(&mut block, 3, 16);
        let (head, body) = block.split_first_chunk().unwrap();
        let head = Head::parse(head);
        assert_eq!(head.len as usize, body.len());
        assert!(head.fits(body, 3, 16) && !head.fits(body, 3, 17) && !head.fits(body, 4, 16));
        assert_eq!(Rows::new(body, 0).collect::<Vec<_>>(), rows);
        for len in 0..body.len() {
            assert!(Rows::new(&body[..len], 0).count() < 3, "{len} bytes");
        }
    }

    #[test]
    fn the_end_knows_how_many_rows_there_are() {
        let last = Head::parse(&last(5, 1, 99));
        assert!(last.ends(5, 1, 99));
        assert!(!last.ends(4, 1, 99) && !last.ends(5, 2, 99) && !last.ends(5, 1, 98));
    }
}
